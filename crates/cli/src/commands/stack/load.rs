//! The caller's side of reading Compose files: arguments, environment, files, standard input.

use std::{
    cell::RefCell,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    compose::{self, Loaded, Request},
    output::terminal::print_error,
};

/// What `docker compose` looks for too.
const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// More than a file may have: who gives the wrong one learns it before all of it was read.
const MAX_FILE_BYTES: u64 = 8 << 20;

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Compose file, or - for standard input; of several each is laid over those before [default: compose.yaml and the like]
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    compose_file: Vec<PathBuf>,
    /// Also what has this profile; * for all [env: COMPOSE_PROFILES]
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<String>,
    /// File with variables, instead of .env beside the first Compose file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

/// Warnings go to standard error.
///
/// # Errors
/// All that is wrong with the files.
pub(super) fn load(arguments: &FileArgs, stack: &str, interpolates: bool) -> anyhow::Result<Loaded> {
    let directory = std::env::current_dir().context("find the working directory")?;
    let files = files(arguments, &directory)?;
    let stdin: RefCell<Option<Vec<u8>>> = RefCell::new(None);
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        if path == Path::new("-") {
            if let Some(known) = stdin.borrow().as_ref() {
                return Ok(known.clone());
            }
            let mut text = Vec::new();
            std::io::stdin().take(MAX_FILE_BYTES).read_to_end(&mut text)?;
            *stdin.borrow_mut() = Some(text.clone());
            return Ok(text);
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let request = Request {
        files: &files,
        profiles: &arguments.profile,
        env_files: &arguments.env_file,
        environment,
        directory: &directory,
        interpolates,
        read: &read,
    };
    let loaded = compose::load(&request, stack).map_err(|refusal| {
        let count = refusal.0.len();
        let things = if count == 1 { "this".to_owned() } else { format!("{count} things") };
        anyhow::anyhow!("{things} must be mended first, nothing was sent:\n{refusal}")
    })?;
    for warning in &loaded.warnings {
        print_error(&format!("{warning}\n"))?;
    }
    Ok(loaded)
}

fn files(arguments: &FileArgs, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !arguments.compose_file.is_empty() {
        return Ok(arguments.compose_file.clone());
    }
    let found = DEFAULT_FILES.iter().find(|name| directory.join(name).is_file());
    let found = found.context("please specify a Compose file (with --compose-file): there is no compose.yaml here")?;
    Ok(vec![PathBuf::from(found)])
}

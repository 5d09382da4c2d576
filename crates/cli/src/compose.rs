//! Compose files: text, environment and a way to read files in; a stack as the daemon's requests out (parity K-01 to K-09).
//!
//! Called by `rswarm stack`. Nothing here speaks to the daemon or writes anything. A file is judged whole: all that is wrong
//! with it is told at once, each with file, line and column, before anybody sends a request.

mod check;
mod convert;
mod env_file;
mod files;
mod interpolate;
mod long;
mod merge;
mod node;
mod order;
mod paths;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::{Path, PathBuf};

use check::{Check, Problem};
use files::{Base, Loader};
use node::{Node, Sources};

pub(crate) use convert::{Dependency, IMAGE, NAMESPACE, Network, Project, Service};
pub(crate) use files::{Environment, ReadFile};

/// What the user gave.
pub(crate) struct Request<'a> {
    /// `-` is standard input.
    pub(crate) files: &'a [PathBuf],
    pub(crate) profiles: &'a [String],
    /// Instead of `.env` beside the first file.
    pub(crate) env_files: &'a [PathBuf],
    pub(crate) environment: Environment,
    /// Where the caller is.
    pub(crate) directory: &'a Path,
    pub(crate) interpolates: bool,
    pub(crate) read: ReadFile<'a>,
}

/// A stack that can be deployed.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) project: Project,
    /// The merged files, as YAML in the long form.
    pub(crate) text: String,
    /// Lines for standard error.
    pub(crate) warnings: Vec<String>,
}

/// Why nothing can be deployed: one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct Refusal(pub(crate) Vec<String>);

/// # Errors
/// All problems of the files.
pub(crate) fn load(request: &Request<'_>, stack: &str) -> Result<Loaded, Refusal> {
    let mut loader = Loader {
        read: request.read,
        sources: Sources::default(),
        check: Check::default(),
        interpolates: request.interpolates,
        directory: request.directory,
        open: Vec::new(),
    };
    let (tree, base) = read_all(&mut loader, request);
    let Loader { sources, mut check, .. } = loader;
    let project = match &tree {
        Some(tree) if check.problems.is_empty() => {
            let profiles = profiles(request, &base.environment);
            let context = convert::Context {
                stack,
                profiles: &profiles,
                environment: &base.environment,
                read: request.read,
                sources: &sources,
            };
            convert::project(tree, &context, &mut check)
        }
        _ => Project::default(),
    };
    if !check.problems.is_empty() {
        return Err(Refusal(lines(check.problems, &sources)));
    }
    let text = tree.map(|mut tree| {
        long::write_out(&mut tree);
        yaml::write(&tree)
    });
    let text = text.unwrap_or_default();
    let mut warnings = Vec::new();
    if !check.unsupported.is_empty() {
        check.unsupported.sort();
        check.unsupported.dedup();
        warnings.push(format!("Ignoring unsupported options: {}", check.unsupported.join(", ")));
    }
    warnings.extend(lines(check.warnings, &sources));
    Ok(Loaded { project, text, warnings })
}

fn read_all(loader: &mut Loader<'_>, request: &Request<'_>) -> (Option<Node>, Base) {
    let files: Vec<PathBuf> = request
        .files
        .iter()
        .map(|file| if file == Path::new("-") { file.clone() } else { request.directory.join(file) })
        .collect();
    let own = files.first().filter(|file| *file != Path::new("-")).and_then(|file| file.parent());
    let directory = own.unwrap_or(request.directory).to_owned();
    let mut environment = request.environment.clone();
    let dot_env = directory.join(".env");
    if !request.env_files.is_empty() {
        // the last one counts, and what is there already is kept
        for file in request.env_files.iter().rev() {
            loader.dot_env(&request.directory.join(file), &mut environment, None);
        }
    } else if (request.read)(&dot_env).is_ok() {
        loader.dot_env(&dot_env, &mut environment, None);
    }
    let base = Base { directory, environment };
    if loader.check.problems.is_empty() { (loader.files(&files, &base, None), base) } else { (None, base) }
}

fn profiles(request: &Request<'_>, environment: &Environment) -> Vec<String> {
    let variable = environment.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    let named = variable.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    request.profiles.iter().cloned().chain(named).collect()
}

/// In the order of the files, each once.
fn lines(mut problems: Vec<Problem>, sources: &Sources) -> Vec<String> {
    problems.sort_by_key(|problem| problem.at);
    let mut lines: Vec<String> = Vec::new();
    for problem in problems {
        let line = match problem.at {
            Some(at) => format!("{}: {}", sources.show(at), problem.why),
            None => problem.why,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

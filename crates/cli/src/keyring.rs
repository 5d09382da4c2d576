//! Credentials of registries, kept where docker keeps them, so that either program's serve both: in its `config.json`,
//! or by the helper programs that this file names (`credHelpers`, `credsStore`).
//!
//! A helper is called as docker-credential-helpers describes: `docker-credential-NAME get|store|erase`, the server or
//! an object on its standard input, an object or the reason on its standard output.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose};
use serde_json::{Value, json};

/// What helpers say of a server that they do not know.
const NOT_FOUND: &str = "credentials not found";
/// The user name that stands for "the secret is a token".
const TOKEN: &str = "<token>";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Instead of a password; empty if there is none.
    pub(crate) identity_token: String,
}

pub(crate) struct Keyring {
    path: PathBuf,
    config: Value,
}

impl Keyring {
    /// `$DOCKER_CONFIG/config.json`, or the one in the home directory.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = match (variable("DOCKER_CONFIG"), variable("HOME")) {
            (Some(directory), _) => PathBuf::from(directory),
            (None, Some(home)) => Path::new(&home).join(".docker"),
            (None, None) => bail!("neither HOME nor DOCKER_CONFIG is set: nowhere to look for credentials"),
        };
        Self::at(directory.join("config.json"))
    }

    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let config = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .ok()
                .filter(Value::is_object)
                .with_context(|| format!("{} is not a JSON object: mend it or move it away", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        Ok(Self { path, config })
    }

    /// `None` if nobody has logged in.
    pub(crate) fn get(&self, server: &str) -> anyhow::Result<Option<Credentials>> {
        if let Some(helper) = self.helper(server) {
            return get_from(&helper, server);
        }
        let entry = &self.config["auths"][server];
        let token = entry["identitytoken"].as_str().unwrap_or_default().to_owned();
        let Some(pair) = entry["auth"].as_str().filter(|pair| !pair.is_empty()) else { return Ok(None) };
        let bad = || format!("the credentials for {server} in {} cannot be read", self.path.display());
        let pair = general_purpose::STANDARD.decode(pair).with_context(bad)?;
        let pair = String::from_utf8(pair).ok().with_context(bad)?;
        let (username, password) = pair.split_once(':').with_context(bad)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Credentials { username: username.to_owned(), password, identity_token: token }))
    }

    pub(crate) fn put(&mut self, server: &str, credentials: &Credentials) -> anyhow::Result<()> {
        let Credentials { username, password, identity_token } = credentials;
        if let Some(helper) = self.helper(server) {
            let (username, secret) =
                if identity_token.is_empty() { (username.as_str(), password) } else { (TOKEN, identity_token) };
            let said = json!({ "ServerURL": server, "Username": username, "Secret": secret });
            return call(&helper, "store", &said.to_string()).map(drop);
        }
        let mut entry = json!({ "auth": general_purpose::STANDARD.encode(format!("{username}:{password}")) });
        if !identity_token.is_empty() {
            entry["identitytoken"] = identity_token.as_str().into();
        }
        self.config["auths"][server] = entry;
        self.write()
    }

    /// False: there was nothing to remove.
    pub(crate) fn remove(&mut self, server: &str) -> anyhow::Result<bool> {
        if let Some(helper) = self.helper(server) {
            let was_there = get_from(&helper, server)?.is_some();
            if was_there {
                call(&helper, "erase", server)?;
            }
            return Ok(was_there);
        }
        let removed = self.config["auths"].as_object_mut().and_then(|auths| auths.shift_remove(server));
        match removed {
            Some(_) => self.write().map(|()| true),
            None => Ok(false),
        }
    }

    /// The program that keeps this server's.
    fn helper(&self, server: &str) -> Option<String> {
        let of_server = self.config["credHelpers"][server].as_str();
        let name = of_server.or_else(|| self.config["credsStore"].as_str()).filter(|name| !name.is_empty())?;
        Some(format!("docker-credential-{name}"))
    }

    /// In one step, for nobody else's eyes.
    fn write(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let context = || format!("write {}", self.path.display());
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/"))).with_context(context)?;
        let partial = self.path.with_extension("json.partial");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)
            .with_context(context)?;
        file.write_all(format!("{:#}\n", self.config).as_bytes()).with_context(context)?;
        fs::rename(&partial, &self.path).with_context(context)
    }
}

fn get_from(helper: &str, server: &str) -> anyhow::Result<Option<Credentials>> {
    let said = match call(helper, "get", server) {
        Err(error) if error.to_string().contains(NOT_FOUND) => return Ok(None),
        said => said?,
    };
    let found: Value = serde_json::from_str(&said).with_context(|| format!("{helper} get: the answer is not JSON"))?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Ok(Some(match text("Username") {
        token if token == TOKEN => Credentials { identity_token: text("Secret"), ..Credentials::default() },
        username => Credentials { username, password: text("Secret"), ..Credentials::default() },
    }))
}

fn call(helper: &str, verb: &str, input: &str) -> anyhow::Result<String> {
    let starting =
        Command::new(helper).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = starting.with_context(|| {
        format!("start {helper}, which config.json names as the keeper of credentials: install it or remove the name")
    })?;
    let mut stdin = child.stdin.take().context("a pipe to the helper")?;
    // One that ends without reading says why itself.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("wait for {helper}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success(),
        "{helper} {verb}: {}",
        if said.is_empty() { "failed without a reason" } else { &said }
    );
    Ok(said)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credentials() -> Credentials {
        Credentials { username: "ann".to_owned(), password: "pa:ss".to_owned(), identity_token: String::new() }
    }

    #[test]
    fn e_43_what_is_put_is_found_and_removed_and_the_rest_of_the_file_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        fs::write(&path, r#"{"detachKeys":"ctrl-x"}"#).expect("a file");
        let open = || Keyring::at(path.clone()).expect("a keyring");
        open().put("r.example", &credentials()).expect("put");
        assert_eq!(open().get("r.example").expect("get"), Some(credentials()));
        assert_eq!(open().get("other.example").expect("get"), None);
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert!(open().remove("r.example").expect("remove"));
        assert!(!open().remove("r.example").expect("remove"));
        assert_eq!(open().config["detachKeys"], "ctrl-x");
    }

    #[test]
    fn e_43_a_helper_keeps_the_credentials_of_its_servers() {
        let directory = tempfile::tempdir().expect("a directory");
        let kept = directory.path().join("kept");
        let program = directory.path().join("docker-credential-fake");
        let script = format!(
            "#!/bin/sh\nread -r said\ncase $1 in\nstore) echo \"$said\" > {kept};;\nerase) rm {kept};;\n\
             get) cat {kept} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nesac\n",
            kept = kept.display()
        );
        // By another process: a file that a fork of ours still has open for writing cannot be executed.
        let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let written = Command::new("sh").args(["-c", write]).arg(&program).arg(script).status();
        assert!(written.expect("a shell").success());
        let path = directory.path().join("config.json");
        fs::write(&path, r#"{"credHelpers":{"r.example":"fake"}}"#).expect("a file");
        let mut keyring = Keyring::at(path.clone()).expect("a keyring");
        assert_eq!(keyring.helper("r.example").as_deref(), Some("docker-credential-fake"));
        assert_eq!(keyring.helper("other.example"), None);
        let missing = keyring.put("r.example", &credentials()).expect_err("not on the PATH").to_string();
        assert!(missing.contains("docker-credential-fake") && missing.contains("install it"), "{missing}");
        let program = program.display().to_string();
        assert_eq!(get_from(&program, "r.example").expect("get"), None);
        let said = json!({ "ServerURL": "r.example", "Username": TOKEN, "Secret": "t0" }).to_string();
        call(&program, "store", &said).expect("store");
        let token = Credentials { identity_token: "t0".to_owned(), ..Credentials::default() };
        assert_eq!(get_from(&program, "r.example").expect("get"), Some(token));
        call(&program, "erase", "r.example").expect("erase");
        assert_eq!(get_from(&program, "r.example").expect("get"), None);
    }
}

//! `login` and `logout`, and which credentials are an image's.

use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose};
use clap::Args;
use serde_json::json;

use super::info::text;
use crate::{
    client::Client,
    keyring::{Credentials, Keyring},
    output::terminal::{print, print_error},
    wire::{self, stdin_is_terminal},
};

/// What stands for the registry of images without one.
const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";
/// A password and a line's end.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// User name
    #[arg(short, long, default_value = "")]
    username: String,
    /// Password; other users of this host see it
    #[arg(short, long, default_value = "")]
    password: String,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Registry
    #[arg(default_value = "")]
    pub(super) server: String,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Registry
    #[arg(default_value = "")]
    server: String,
}

pub(crate) async fn login(client: &Client, arguments: LoginArgs) -> anyhow::Result<()> {
    let server = server_key(&arguments.server);
    let (username, password) = ask(arguments)?;
    let body = json!({ "username": username, "password": password, "serveraddress": server });
    let answer = client.post("/auth", Some(&body)).await?;
    let token = text(&answer["IdentityToken"]);
    let (password, identity_token) = if token.is_empty() { (password, token) } else { (String::new(), token) };
    Keyring::open()?.put(&server, &Credentials { username, password, identity_token })?;
    print(&format!("{}\n", answer["Status"].as_str().unwrap_or("Login Succeeded")))
}

pub(super) fn ask(arguments: LoginArgs) -> anyhow::Result<(String, String)> {
    let LoginArgs { mut username, mut password, password_stdin, .. } = arguments;
    if password_stdin {
        ensure!(password.is_empty(), "--password and --password-stdin are mutually exclusive");
        ensure!(!username.is_empty(), "must provide --username with --password-stdin");
        std::io::stdin().take(MAX_PASSWORD_BYTES).read_to_string(&mut password).context("read the password")?;
        password.truncate(password.trim_end_matches(['\n', '\r']).len());
    } else if !password.is_empty() {
        print_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")?;
    }
    if username.is_empty() || (password.is_empty() && !password_stdin) {
        if !stdin_is_terminal() {
            bail!("cannot perform an interactive login from a non TTY device: give --username and --password-stdin");
        }
        if username.is_empty() {
            print_error("Username: ")?;
            std::io::stdin().read_line(&mut username).context("read the user name")?;
            username = username.trim().to_owned();
        }
        print_error("Password: ")?;
        password = wire::read_line_unseen().context("read the password")?;
        print_error("\n")?;
    }
    ensure!(!username.is_empty() && !password.is_empty(), "username and password are both required");
    Ok((username, password))
}

pub(crate) fn logout(arguments: &LogoutArgs) -> anyhow::Result<()> {
    let server = server_key(&arguments.server);
    if !Keyring::open()?.remove(&server)? {
        return print(&format!("Not logged in to {server}\n"));
    }
    print(&format!("Removing login credentials for {server}\n"))
}

/// `https://registry.example/` and `registry.example` are one; the default one has a name of its own.
fn server_key(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    match bare.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        host => host.to_owned(),
    }
}

/// The registry in an image's name, as [`server_key`] writes it.
fn registry_of(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => server_key(host),
        _ => server_key(""),
    }
}

/// The header for a request about this image; `None` if nobody has logged in.
pub(crate) fn credentials(image: &str) -> anyhow::Result<Option<String>> {
    let server = registry_of(image);
    let Some(found) = Keyring::open()?.get(&server)? else { return Ok(None) };
    let body = json!({
        "username": found.username, "password": found.password, "serveraddress": server,
        "identitytoken": found.identity_token,
    });
    Ok(Some(general_purpose::URL_SAFE.encode(body.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_have_one_name() {
        for (image, registry) in [
            ("nginx", DEFAULT_REGISTRY),
            ("team/app:1", DEFAULT_REGISTRY),
            ("docker.io/team/app", DEFAULT_REGISTRY),
            ("localhost:5000/app:1", "localhost:5000"),
            ("registry.example/a/b@sha256:00", "registry.example"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
        assert_eq!(server_key("https://registry.example/"), "registry.example");
        assert_eq!(server_key(""), DEFAULT_REGISTRY);
    }
}

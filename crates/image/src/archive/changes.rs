//! The Dockerfile instructions that `commit --change` and `import --change` understand. Pure: text in, configuration changed.

use std::time::Duration;

use types::parse_duration;

use crate::{
    config::{Empty, Healthcheck, RunConfig},
    error::{Error, Result},
};

/// A century is more than anybody waits between two checks.
const LONGEST: Duration = Duration::from_secs(3_200_000_000);

const KNOWN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// Applies instructions such as `CMD ["sh"]` or `ENV A=1 B="two words"`, one after the other. An entrypoint takes the command
/// away that was there for another one, but not one of these instructions (moby `dispatchEntrypoint`).
pub(super) fn apply_changes(config: &mut RunConfig, instructions: &[String]) -> Result<()> {
    let mut has_command = false;
    for instruction in instructions {
        match apply_change(config, instruction)?.as_str() {
            "CMD" => has_command = true,
            "ENTRYPOINT" if !has_command => config.cmd.clear(),
            _ => {}
        }
    }
    Ok(())
}

/// Gives its word.
fn apply_change(config: &mut RunConfig, instruction: &str) -> Result<String> {
    let bad = |reason: String| Error::BadChange { instruction: instruction.to_owned(), reason };
    let trimmed = instruction.trim();
    let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let word = word.to_ascii_uppercase();
    let expanded = match word.as_str() {
        "ENV" | "LABEL" | "EXPOSE" | "USER" | "VOLUME" | "WORKDIR" | "STOPSIGNAL" => expanded(rest.trim(), &config.env),
        _ => rest.trim().to_owned(),
    };
    let rest = expanded.as_str();
    if rest.is_empty() {
        return Err(bad(format!("want an instruction and its arguments; known are {KNOWN}")));
    }
    match word.as_str() {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = join_path(&config.working_dir, rest),
        "STOPSIGNAL" => {
            rest.parse::<types::Signal>().map_err(|_| bad(format!("invalid signal: {rest}")))?;
            rest.clone_into(&mut config.stop_signal);
        }
        "ONBUILD" => {
            let inner = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(inner.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(bad(format!("{inner} isn't allowed as an ONBUILD trigger")));
            }
            config.on_build.push(rest.to_owned());
        }
        "ENV" => {
            for (name, value) in pairs(rest).map_err(bad)? {
                let prefix = format!("{name}=");
                config.env.retain(|old| !old.starts_with(&prefix));
                config.env.push(prefix + &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).map_err(bad)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let ports = exposed(port).map_err(bad)?;
                config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
            }
        }
        "VOLUME" => {
            let list = json_list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            config.volumes.extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest).map_err(bad)?),
        other => return Err(bad(format!("unknown instruction {other}; known are {KNOWN}"))),
    }
    Ok(word)
}

/// With `$NAME` and `${NAME}` of the image's variables put in, unless in single quotes or behind a backslash; one that
/// is not there is empty (the Dockerfile reference, "Environment replacement").
fn expanded(text: &str, env: &[String]) -> String {
    let value = |name: &str| {
        let found = env.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut out, mut rest, mut is_quoted) = (String::new(), text, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\'' => is_quoted = !is_quoted,
            '\\' if after.starts_with('$') => {
                out.push('$');
                rest = &after[1..];
                continue;
            }
            '$' if !is_quoted => {
                let (name, left) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
                    Some(braced) => braced,
                    None => after.split_at(after.find(|c| !is_of_name(c)).unwrap_or(after.len())),
                };
                if !name.is_empty() {
                    out.push_str(&value(name));
                    rest = left;
                    continue;
                }
            }
            _ => {}
        }
        out.push(c);
        rest = after;
    }
    out
}

/// A JSON list is the command itself, anything else goes to the shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn join_path(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", base.trim_end_matches('/'))
}

/// `A=1 B="two words" C=it\ is`, or the old form `A the whole rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    if let Some((name, value)) = text.split_once(char::is_whitespace)
        && !name.contains('=')
    {
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) | None => Err(format!("{word:?} is not name=value")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    };
    words.into_iter().map(pair).collect()
}

/// Splits at blanks; quotes and backslashes protect them.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote, mut open) = (Vec::new(), String::new(), None, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.push(characters.next().ok_or("it ends with a backslash")?),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
                continue;
            }
            (c, _) => word.push(c),
        }
        open = true;
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(open.then_some(word));
    Ok(words)
}

/// `80` -> `80/tcp`, and each port of a range.
fn exposed(port: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first @ 1..), Ok(last)) if first <= last && matches!(protocol.as_str(), "tcp" | "udp" | "sctp") => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(format!("{port:?} is not a port such as 80, 53/udp or 8000-8010/tcp")),
    }
}

/// `NONE`, or options and `CMD …`.
fn healthcheck(text: &str) -> Result<Healthcheck, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
    }
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).ok_or("CMD is missing")?;
        let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} wants a value"))?;
        match name {
            "interval" => check.interval = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "start-period" => check.start_period = duration(value)?,
            "start-interval" => check.start_interval = duration(value)?,
            "retries" => check.retries = value.parse().map_err(|_| format!("{value:?} is not a number"))?,
            _ => return Err(format!("unknown option --{name}")),
        }
        rest = after.trim_start();
    }
    let command = rest.strip_prefix("CMD").filter(|c| c.starts_with(char::is_whitespace)).map(str::trim);
    let command = command.filter(|c| !c.is_empty()).ok_or("want NONE or CMD and a command")?;
    check.test = match json_list(command) {
        Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
        None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
    };
    Ok(check)
}

/// In nanoseconds.
fn duration(text: &str) -> Result<i64, String> {
    let found = parse_duration(text).ok().filter(|duration| text != "0" && *duration <= LONGEST);
    let ns = found.and_then(|duration| i64::try_from(duration.as_nanos()).ok());
    ns.ok_or_else(|| format!("{text:?} is not a duration such as 30s or 1m30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(changes: &[&str]) -> Result<RunConfig> {
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut config, &changes)?;
        Ok(config)
    }

    /// E-18: a command belongs to the entrypoint that it was written for.
    #[test]
    fn e_18_an_entrypoint_takes_the_command_away() {
        let mut config = RunConfig { cmd: vec!["old".into()], ..RunConfig::default() };
        let entrypoint = r#"ENTRYPOINT ["run"]"#.to_owned();
        apply_changes(&mut config, std::slice::from_ref(&entrypoint)).expect("good");
        assert_eq!((config.entrypoint, config.cmd.len()), (vec!["run".to_owned()], 0));
        let both = apply(&[r#"CMD ["it"]"#, &entrypoint, "ONBUILD RUN make"]).expect("good");
        assert_eq!((both.cmd, both.on_build), (vec!["it".to_owned()], vec!["RUN make".to_owned()]));
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = apply(&[
            r#"CMD ["sh", "-c", "true"]"#,
            "entrypoint run me",
            r#"ENV A=1 B="two words" C=it\ is"#,
            "ENV A 1 2 3",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER 1000:1000",
            "EXPOSE 80 53/UDP 8000-8001/tcp",
            r#"LABEL x="y z""#,
            r#"VOLUME ["/data"]"#,
            "VOLUME /a /b",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD wget -q localhost",
        ])
        .expect("all good");
        assert_eq!(config.cmd, ["sh", "-c", "true"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run me"]);
        assert_eq!(config.env, ["B=two words", "C=it is", "A=1 2 3"]);
        assert_eq!(config.working_dir, "/srv/app");
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(config.labels.get("x").map(String::as_str), Some("y z"));
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a", "/b", "/data"]);
        let check = config.healthcheck.expect("set");
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "wget -q localhost"]);
    }

    #[test]
    fn variables_are_put_in() {
        let config = apply(&["ENV A=1 P=/bin", "ENV P=/own:$P:${A}${none}x", "ENV Q='$A' R=\\$A", "WORKDIR /srv/$A"]);
        let config = config.expect("all good");
        assert_eq!(config.env, ["A=1", "P=/own:/bin:1x", "Q=$A", "R=$A"]);
        assert_eq!(config.working_dir, "/srv/1");
    }

    #[test]
    fn bad_instructions_say_why() {
        let cases = [
            ("", "want an instruction"),
            ("CMD", "want an instruction"),
            ("RUN make", "unknown instruction RUN"),
            ("ENV =x", "not name=value"),
            ("LABEL a=\"b", "not closed"),
            ("EXPOSE 0", "not a port"),
            ("EXPOSE 80/icmp", "not a port"),
            ("EXPOSE 90-80", "not a port"),
            ("STOPSIGNAL BAD", "invalid signal: BAD"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK --interval=5 CMD x", "not a duration"),
            ("HEALTHCHECK true", "want NONE or CMD"),
        ];
        for (instruction, reason) in cases {
            let error = apply(&[instruction]).expect_err(instruction).to_string();
            assert!(error.contains(reason), "{instruction}: {error}");
        }
    }
}

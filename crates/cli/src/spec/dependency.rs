//! `--secret NAME` and `--config source=NAME,target=/etc/app,uid=0,gid=0,mode=0440`.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::{edit::change_list, fields};

const SECRETS: &str = "TaskTemplate.ContainerSpec.Secrets";
const CONFIGS: &str = "TaskTemplate.ContainerSpec.Configs";
/// Everybody in the container may read it, as docker has it.
const DEFAULT_MODE: u32 = 0o444;

pub(crate) fn change_secrets(spec: &mut Value, add: &[String], remove: &[String]) -> anyhow::Result<()> {
    let add = add.iter().map(|text| parse("secret", "SecretName", text)).collect::<anyhow::Result<_>>()?;
    change_list(spec, SECRETS, |wanted| name_of(wanted, "SecretName"), remove, add);
    Ok(())
}

pub(crate) fn change_configs(spec: &mut Value, add: &[String], remove: &[String]) -> anyhow::Result<()> {
    let add = add.iter().map(|text| parse("config", "ConfigName", text)).collect::<anyhow::Result<_>>()?;
    change_list(spec, CONFIGS, |wanted| name_of(wanted, "ConfigName"), remove, add);
    Ok(())
}

fn name_of(wanted: &Value, field: &str) -> String {
    wanted[field].as_str().unwrap_or_default().to_owned()
}

/// The daemon finds the id of the name.
fn parse(kind: &str, field: &str, text: &str) -> anyhow::Result<Value> {
    let (name, file) = read(text).with_context(|| format!("invalid {kind} {text:?}"))?;
    Ok(json!({ "File": file, field: name }))
}

fn read(text: &str) -> anyhow::Result<(String, Value)> {
    let (mut source, mut target, mut uid, mut gid, mut mode) =
        (String::new(), String::new(), "0".to_owned(), "0".to_owned(), DEFAULT_MODE);
    if text.contains('=') {
        for part in fields::split(text) {
            let (key, value) = part.split_once('=').with_context(|| format!("{part:?} is no KEY=VALUE"))?;
            match key.trim().to_ascii_lowercase().as_str() {
                "source" | "src" => value.clone_into(&mut source),
                "target" => value.clone_into(&mut target),
                "uid" => value.clone_into(&mut uid),
                "gid" => value.clone_into(&mut gid),
                "mode" => {
                    mode = u32::from_str_radix(value, 8).with_context(|| format!("{value:?} is no octal mode"))?;
                }
                other => bail!("unexpected key {other:?}: known are source, target, uid, gid and mode"),
            }
        }
    } else {
        text.clone_into(&mut source);
    }
    ensure!(!source.is_empty(), "source is required: give a name");
    if target.is_empty() {
        target.clone_from(&source);
    }
    Ok((source, json!({ "Name": target, "UID": uid, "GID": gid, "Mode": mode })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s63_short_and_long_syntax() {
        let mut spec = json!({});
        let long = "source=b,target=/etc/b,uid=7,gid=8,mode=0440".to_owned();
        change_secrets(&mut spec, &["a".to_owned(), long], &[]).expect("good");
        let wanted = json!([
            { "File": { "Name": "a", "UID": "0", "GID": "0", "Mode": 0o444 }, "SecretName": "a" },
            { "File": { "Name": "/etc/b", "UID": "7", "GID": "8", "Mode": 0o440 }, "SecretName": "b" },
        ]);
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Secrets"], wanted);
        change_secrets(&mut spec, &["src=a,target=c".to_owned()], &["b".to_owned()]).expect("good");
        let secrets = spec["TaskTemplate"]["ContainerSpec"]["Secrets"].as_array().expect("a list").clone();
        assert_eq!((secrets.len(), secrets[0]["File"]["Name"].as_str()), (1, Some("c")));
        for (bad, part) in [("target=x", "source"), ("source=a,mode=9", "octal"), ("source=a,colour=red", "colour")] {
            let error = change_configs(&mut spec, &[bad.to_owned()], &[]).expect_err("refused");
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}

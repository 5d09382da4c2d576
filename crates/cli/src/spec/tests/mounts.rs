//! S-64 to S-68, E-15: `--mount` in docker's forms.

use super::*;

fn mount(option: &str) -> String {
    match created(&format!("create --mount '{option}' a")) {
        Ok(spec) => spec["TaskTemplate"]["ContainerSpec"]["Mounts"][0].to_string(),
        Err(error) => format!("error: {error:#}"),
    }
}

#[test]
fn s_65_options_of_a_driver_may_have_commas_within_quotes() {
    assert_eq!(
        mount(r#"type=volume,src=nfs,dst=/srv,volume-opt=type=nfs,"volume-opt=o=addr=192.0.2.1,vers=4",volume-nocopy"#),
        r#"{"Type":"volume","Source":"nfs","Target":"/srv","VolumeOptions":{"DriverConfig":{"Options":{"type":"nfs","o":"addr=192.0.2.1,vers=4"}},"NoCopy":true}}"#
    );
}

#[test]
fn s_64_a_path_from_here_is_made_whole() {
    let here = std::env::current_dir().expect("a directory");
    let source = here.join("data");
    assert_eq!(
        mount("type=bind,source=./data,target=/srv"),
        format!(r#"{{"Type":"bind","Source":{source:?},"Target":"/srv"}}"#)
    );
    assert!(mount("type=bind,source=data,target=/srv").contains(r#""Source":"data""#), "the daemon judges it");
}

#[test]
fn s_64_how_far_read_only_goes() {
    let bind = |more: &str| mount(&format!("type=bind,src=/a,dst=/b,{more}"));
    let with = |options: &str| format!(r#"{{"Type":"bind","Source":"/a","Target":"/b",{options}}}"#);
    assert_eq!(bind("bind-recursive=enabled,ro"), with(r#""ReadOnly":true"#));
    assert_eq!(bind("bind-recursive=disabled"), with(r#""BindOptions":{"NonRecursive":true}"#));
    assert_eq!(
        bind("ro,bind-recursive=writable"),
        with(r#""ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true}"#)
    );
    assert_eq!(
        bind("ro,bind-recursive=readonly,bind-propagation=rprivate"),
        with(r#""ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true,"Propagation":"rprivate"}"#)
    );
    for (bad, part) in [
        ("bind-recursive=writable", "bind-recursive=writable says how far readonly goes: give readonly too"),
        ("bind-recursive=readonly", "bind-recursive=readonly says how far readonly goes: give readonly too"),
        ("ro,bind-recursive=readonly,bind-propagation=shared", "needs bind-propagation=rprivate, not shared"),
        ("bind-recursive=some", "enabled, disabled, writable or readonly, not \"some\""),
        ("bind-recursive", "needs a value"),
    ] {
        let said = bind(bad);
        assert!(said.starts_with("error: invalid mount") && said.contains(part), "{said}");
    }
}

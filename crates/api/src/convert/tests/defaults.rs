//! S-01: a spec as it was given, and with the defaults filled in (`insertDefaults`).

use std::collections::BTreeSet;

use expect_test::expect;
use serde_json::{Value, json};

use super::{Given, Networks, full_spec, read, service, with, write, write_spec};
use crate::convert::service::write_whole_spec;

fn plain() -> Value {
    json!({ "Name": "a", "TaskTemplate": { "ContainerSpec": { "Image": "nginx" } } })
}

/// As `POST` with this answers, without and with defaults.
fn shown(body: &Value) -> (Value, Value) {
    let spec = read(body, Given::default()).expect("a good spec");
    (write_spec(&spec), write_whole_spec(&spec))
}

#[test]
fn s_01_what_was_not_given_is_not_shown() {
    let (given, _) = shown(&plain());
    expect![[r#"
        {
          "Name": "a",
          "Labels": {},
          "TaskTemplate": {
            "ContainerSpec": {
              "Image": "nginx:latest",
              "Isolation": "default"
            },
            "ForceUpdate": 0,
            "Runtime": "container"
          },
          "Mode": {
            "Replicated": {
              "Replicas": 1
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&given).expect("JSON"));
}

#[test]
fn s_01_defaults_are_dockers() {
    let (_, whole) = shown(&plain());
    expect![[r#"
        {
          "Name": "a",
          "Labels": {},
          "TaskTemplate": {
            "ContainerSpec": {
              "Image": "nginx:latest",
              "StopGracePeriod": 10000000000,
              "DNSConfig": {},
              "Isolation": "default"
            },
            "Resources": {
              "Limits": {},
              "Reservations": {}
            },
            "RestartPolicy": {
              "Condition": "any",
              "Delay": 5000000000,
              "MaxAttempts": 0
            },
            "Placement": {},
            "ForceUpdate": 0,
            "Runtime": "container"
          },
          "Mode": {
            "Replicated": {
              "Replicas": 1
            }
          },
          "UpdateConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": 5000000000,
            "MaxFailureRatio": 0,
            "Order": "stop-first"
          },
          "RollbackConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": 5000000000,
            "MaxFailureRatio": 0,
            "Order": "stop-first"
          },
          "EndpointSpec": {
            "Mode": "vip"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&whole).expect("JSON"));
}

/// Each part, said as what it would be anyway, comes back, and with it nothing else.
#[test]
fn s_01_what_was_given_is_shown_though_it_is_the_default() {
    let parts = [
        ("/TaskTemplate/ContainerSpec/StopGracePeriod", json!(10_000_000_000_u64)),
        ("/TaskTemplate/ContainerSpec/DNSConfig", json!({})),
        ("/TaskTemplate/Resources", json!({})),
        ("/TaskTemplate/Resources", json!({ "Limits": {} })),
        ("/TaskTemplate/Resources", json!({ "Limits": {}, "Reservations": {} })),
        ("/TaskTemplate/RestartPolicy", json!({ "Condition": "any", "MaxAttempts": 0 })),
        ("/TaskTemplate/RestartPolicy", json!({ "Condition": "any", "Delay": 5_000_000_000_u64, "MaxAttempts": 0 })),
        ("/TaskTemplate/RestartPolicy", json!({ "Condition": "none", "MaxAttempts": 2, "Window": 0 })),
        ("/TaskTemplate/Placement", json!({})),
        (
            "/UpdateConfig",
            json!({ "Parallelism": 1, "FailureAction": "pause", "MaxFailureRatio": 0, "Order": "stop-first" }),
        ),
        (
            "/RollbackConfig",
            json!({ "Parallelism": 3, "FailureAction": "pause", "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0, "Order": "stop-first" }),
        ),
        ("/EndpointSpec", json!({ "Mode": "vip" })),
    ];
    let (none, _) = shown(&plain());
    for (path, said) in parts {
        let (mut given, _) = shown(&with(path, said.clone()));
        assert_eq!(given.pointer(path), Some(&said), "{path}");
        assert_eq!(read(&given, Given::default()), read(&with(path, said), Given::default()), "{path}");
        let (parent, name) = path.rsplit_once('/').expect("a pointer");
        let parent = given.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        parent.shift_remove(name);
        assert_eq!(given, none, "{path}");
    }
}

#[test]
fn s_01_names_in_another_case_are_said_too_and_zero_monitors_are_not() {
    let spec = read(&with("/endpointspec", json!({})), Given::default()).expect("a good spec");
    assert_eq!(spec.stated, BTreeSet::from([types::Stated::Endpoint]));
    let (given, whole) = shown(&with("/UpdateConfig", json!({ "Parallelism": 2, "Monitor": 0 })));
    assert_eq!(
        (given["UpdateConfig"].get("Monitor"), &whole["UpdateConfig"]["Monitor"]),
        (None, &json!(5_000_000_000_u64))
    );
    let null = read(&with("/UpdateConfig", Value::Null), Given::default()).expect("a good spec");
    assert!(null.stated.is_empty());
}

/// A state from before anybody knew what was said: defaults are taken for not said, what differs is shown.
#[test]
fn s_01_specs_of_an_older_state_are_read() {
    let mut spec = read(&full_spec(), Given::default()).expect("full");
    spec.stated.clear();
    let given = write_spec(&spec);
    assert_eq!(given["UpdateConfig"]["Parallelism"], 2);
    assert_eq!(given["RollbackConfig"].get("Monitor"), None);
    let again = read(&given, Given::default()).expect("own output");
    assert!(again.means_the_same(&spec) && again != spec);
}

#[test]
fn s_01_the_endpoint_of_a_service_that_was_given_none_is_empty() {
    let mut view = service();
    assert_eq!(write(&view, false, &Networks::new())["Endpoint"]["Spec"]["Mode"], "vip");
    view.service.spec = std::sync::Arc::new(read(&plain(), Given::default()).expect("a good spec"));
    assert_eq!(write(&view, false, &Networks::new())["Endpoint"]["Spec"], json!({}));
}

//! The filter on system calls, for one set of capabilities on one architecture. Pure. The default
//! profile's data is in `seccomp_rules`; a profile of the user may use Docker's conditions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::seccomp_rules::{
    ALWAYS, BY_FIRST_ARGUMENT, CLONE_NAMESPACE_FLAGS, Compare, ON_ARCHITECTURE, WITH_CAPABILITY,
};

/// The default profile in OCI's form. `capabilities` with `CAP_`; `architecture` by Rust's name.
pub(super) fn default_profile(capabilities: &[&str], architecture: &str) -> Value {
    let may = |name: &str| capabilities.contains(&name);
    let allow =
        |names: &str| json!({"names": names.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"});
    let mut rules = vec![allow(ALWAYS)];
    rules.extend(WITH_CAPABILITY.iter().filter(|(cap, _)| may(cap)).map(|(_, names)| allow(names)));
    rules.extend(ON_ARCHITECTURE.iter().filter(|(arch, _)| *arch == architecture).map(|(_, names)| allow(names)));
    rules.extend(BY_FIRST_ARGUMENT.iter().map(|(name, compare, value)| by_first_argument(name, *compare, *value)));
    if !may("CAP_SYS_ADMIN") {
        rules.push(by_first_argument("clone", Compare::NoneOf, CLONE_NAMESPACE_FLAGS));
        // clone3 hides its flags behind a pointer: pretend it does not exist, and libc falls back to clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(architecture),
        "syscalls": rules,
    })
}

fn by_first_argument(name: &str, compare: Compare, value: u64) -> Value {
    let op = match compare {
        Compare::Less => "SCMP_CMP_LT",
        Compare::Equal => "SCMP_CMP_EQ",
        Compare::Greater => "SCMP_CMP_GT",
        Compare::NoneOf => "SCMP_CMP_MASKED_EQ",
    };
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "valueTwo": 0, "op": op}]})
}

/// The architecture and those whose programs its kernel also runs.
fn architectures(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

/// A profile as users write it: OCI's form plus Docker's conditions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

/// `minKernel` is not looked at: every kernel this runs on is newer than any in use (4.8).
#[derive(Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// A user's profile in OCI's form, with its conditions decided.
pub(super) fn custom_profile(text: &str, capabilities: &[&str], architecture: &str) -> Result<Value, String> {
    let profile: Profile =
        serde_json::from_str(text).map_err(|err| format!("the seccomp profile does not parse: {err}"))?;
    let docker_arch = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let may = |name: &String| capabilities.contains(&name.as_str());
    let here = |name: &String| name == docker_arch;
    let included = |c: &Condition| c.caps.iter().all(may) && (c.arches.is_empty() || c.arches.iter().any(here));
    let excluded = |c: &Condition| c.caps.iter().any(may) || c.arches.iter().any(here);
    let rules: Vec<Value> = profile
        .syscalls
        .into_iter()
        .filter(|rule| included(&rule.includes) && !excluded(&rule.excludes))
        .map(oci_rule)
        .collect();
    let mut oci = json!({"defaultAction": profile.default_action, "syscalls": rules});
    let architectures = profile.arch_map.map_or(profile.architectures, |map| {
        let native = architectures(architecture).first().copied().unwrap_or_default();
        let entry = map.into_iter().find(|entry| entry.architecture == native)?;
        Some([vec![entry.architecture], entry.sub_architectures.unwrap_or_default()].concat())
    });
    for (key, value) in [
        ("defaultErrnoRet", profile.default_errno_ret.map(Value::from)),
        ("architectures", architectures.map(Value::from)),
        ("flags", profile.flags.map(Value::from)),
    ] {
        if let Some(value) = value {
            oci[key] = value;
        }
    }
    Ok(oci)
}

fn oci_rule(mut rule: Rule) -> Value {
    if !rule.name.is_empty() {
        rule.names.push(rule.name);
    }
    let mut oci = json!({"names": rule.names, "action": rule.action});
    if let Some(errno) = rule.errno_ret {
        oci["errnoRet"] = errno.into();
    }
    if let Some(args) = rule.args.filter(|args| !args.is_empty()) {
        oci["args"] = args.into();
    }
    oci
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Each rule on a line, long lists cut.
    #[allow(clippy::needless_pass_by_value, reason = "expect! makes it on the spot")]
    fn check(profile: &Value, expected: Expect) {
        let rules = profile["syscalls"].as_array().unwrap();
        let lines = rules.iter().map(|rule| {
            let names: Vec<_> = rule["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
            let names = if names.len() > 8 { format!("{} calls", names.len()) } else { names.join(" ") };
            let args = rule.get("args").map(|a| format!(" {} {}", a[0]["op"], a[0]["value"])).unwrap_or_default();
            format!("{} {names}{args}\n", rule["action"].as_str().unwrap())
        });
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn a_capability_opens_its_calls() {
        check(
            &default_profile(&["CAP_SYS_CHROOT", "CAP_KILL"], "x86_64"),
            expect![[r#"
                SCMP_ACT_ALLOW 364 calls
                SCMP_ACT_ALLOW chroot
                SCMP_ACT_ALLOW arch_prctl modify_ldt
                SCMP_ACT_ALLOW socket "SCMP_CMP_LT" 38
                SCMP_ACT_ALLOW socket "SCMP_CMP_EQ" 39
                SCMP_ACT_ALLOW socket "SCMP_CMP_GT" 40
                SCMP_ACT_ALLOW personality "SCMP_CMP_EQ" 0
                SCMP_ACT_ALLOW personality "SCMP_CMP_EQ" 8
                SCMP_ACT_ALLOW personality "SCMP_CMP_EQ" 131072
                SCMP_ACT_ALLOW personality "SCMP_CMP_EQ" 131080
                SCMP_ACT_ALLOW personality "SCMP_CMP_EQ" 4294967295
                SCMP_ACT_ALLOW clone "SCMP_CMP_MASKED_EQ" 2114060288
                SCMP_ACT_ERRNO clone3
            "#]],
        );
    }

    #[test]
    fn a_users_profile_keeps_the_rules_whose_conditions_hold() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[]},
                        {"name":"chroot","action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_CHROOT"]}},
                        {"names":["bpf"],"action":"SCMP_ACT_ERRNO","includes":{"arches":["arm64"]}}]}"#;
        let profile = custom_profile(text, &["CAP_SYS_CHROOT"], "x86_64").unwrap();
        check(
            &profile,
            expect![[r#"
            SCMP_ACT_ERRNO mkdir
        "#]],
        );
        assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        assert!(custom_profile("{", &[], "x86_64").unwrap_err().starts_with("the seccomp profile does not parse"));
    }
}

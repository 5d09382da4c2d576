//! What one more command in a container is executed with: the container's own process, with what was asked
//! for over it. Called by the exec helper. Pure.

use oci_spec::{OciSpecError, runtime::Process};
use serde_json::{Value, json};

use super::capability_names;
use crate::protocol::ExecRequest;

/// What programs need to know of a terminal, as Docker sets it.
const TERM: &str = "TERM=xterm";

/// The process of `request` in the container whose first process is `base`. A privileged one gets the capabilities of
/// the mask `held`.
///
/// # Errors
/// When the two together do not form a process, which the specification's own types decide.
pub(crate) fn exec_process(base: &Process, request: &ExecRequest, held: u64) -> Result<Process, OciSpecError> {
    let mut process = serde_json::to_value(base)?;
    process["args"] = json!(request.args);
    process["terminal"] = json!(request.tty);
    process["env"] = json!(variables(base, request));
    if !request.cwd.is_empty() {
        process["cwd"] = json!(request.cwd);
    }
    if let Some(user) = &request.user {
        process["user"] = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.groups});
        // Root has all that the container may have, anybody else nothing, as for the first process.
        let held = if user.uid == 0 { process["capabilities"]["bounding"].clone() } else { Value::Array(Vec::new()) };
        process["capabilities"]["effective"] = held.clone();
        process["capabilities"]["permitted"] = held;
    }
    if request.privileged {
        let all: Vec<&str> = capability_names(held).collect();
        for set in ["bounding", "effective", "permitted"] {
            process["capabilities"][set] = json!(all);
        }
    }
    Ok(serde_json::from_value(process)?)
}

/// The container's own, with those of the request over them. Another user has another home.
fn variables(base: &Process, request: &ExecRequest) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    let mut given = request.env.clone();
    let lacks = |given: &[String], wanted: &str| !given.iter().any(|entry| name(entry).as_deref() == Some(wanted));
    if let Some(user) = request.user.as_ref().filter(|user| !user.home.is_empty())
        && lacks(&given, "HOME")
    {
        given.push(format!("HOME={}", user.home));
    }
    let own = base.env().as_deref().unwrap_or_default();
    if request.tty && lacks(&given, "TERM") && lacks(own, "TERM") {
        given.push(TERM.to_owned());
    }
    let kept = own.iter().filter(|entry| !given.iter().any(|over| name(over) == name(entry)));
    kept.chain(&given).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ResolvedUser;

    fn base() -> Process {
        let value = json!({
            "terminal": true, "user": {"uid": 0, "gid": 0, "additionalGids": [0]}, "args": ["serve"],
            "env": ["PATH=/bin", "A=1", "HOME=/root"], "cwd": "/srv", "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                             "inheritable": [], "ambient": []},
        });
        serde_json::from_value(value).unwrap()
    }

    fn request() -> ExecRequest {
        let args = vec!["true".to_owned()];
        let (env, cwd, user) = (Vec::new(), String::new(), None);
        ExecRequest { args, env, cwd, user, tty: false, privileged: false, layout: None }
    }

    #[test]
    fn what_is_not_asked_for_is_the_containers_own() {
        let process = exec_process(&base(), &request(), 0).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["true".to_owned()][..]));
        assert_eq!(process.cwd().to_str(), Some("/srv"));
        assert_eq!((process.terminal(), process.no_new_privileges()), (Some(false), Some(true)));
        assert_eq!((process.env(), process.capabilities()), (base().env(), base().capabilities()));
    }

    #[test]
    fn variables_directory_and_user_can_be_others() {
        let user = ResolvedUser { uid: 7, gid: 8, groups: vec![8, 9], home: "/".to_owned() };
        let (env, cwd) = (vec!["A=2".to_owned(), "B=3".to_owned()], "/tmp".to_owned());
        let process = exec_process(&base(), &ExecRequest { env, cwd, user: Some(user), ..request() }, 0).unwrap();
        assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3", "HOME=/"]);
        assert_eq!(process.cwd().to_str(), Some("/tmp"));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        let capabilities = process.capabilities().as_ref().unwrap();
        assert!(capabilities.effective().as_ref().is_some_and(std::collections::HashSet::is_empty));
        assert_eq!(capabilities.bounding(), base().capabilities().as_ref().unwrap().bounding());
    }
    #[test]
    fn a_privileged_command_on_a_terminal() {
        let request = ExecRequest { tty: true, privileged: true, ..request() };
        let process = exec_process(&base(), &request, 1 << 5 | 1).unwrap();
        assert_eq!(process.terminal(), Some(true));
        assert!(process.env().as_deref().unwrap().contains(&"TERM=xterm".to_owned()));
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.effective().as_ref().map(std::collections::HashSet::len), Some(2));
    }
}

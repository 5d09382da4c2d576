//! A further command in a container: Docker's `ExecConfig` and `ExecInspect`.

use node::engine::{ExecSpec, ExecView};
use serde_json::{Value, json};

use super::reader::{FieldError, Object};

/// The body of `POST /containers/{id}/exec`.
pub(crate) fn read(body: &Value) -> Result<ExecSpec, FieldError> {
    let mut from = Object::root(body)?;
    let spec = ExecSpec {
        args: from.strings("Cmd")?,
        env: from.strings("Env")?,
        cwd: from.string("WorkingDir")?,
        user: from.string("User")?,
        tty: from.boolean("Tty")?,
        privileged: from.boolean("Privileged")?,
        stdin: from.boolean("AttachStdin")?,
        stdout: from.boolean("AttachStdout")?,
        stderr: from.boolean("AttachStderr")?,
        detach_keys: from.string("DetachKeys")?,
        size: read_size(&mut from)?,
    };
    // Said again, and decided, when the command is started.
    from.boolean("Detach")?;
    // docker-py says once more which container it is; the path has said it.
    from.string("Container")?;
    from.finish()?;
    Ok(spec)
}

/// The body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExecStart {
    pub(crate) is_detached: bool,
    /// The answer has no frames.
    pub(crate) tty: bool,
    pub(crate) size: (u16, u16),
}

pub(crate) fn read_start(body: &Value) -> Result<ExecStart, FieldError> {
    let mut from = Object::root(body)?;
    let start =
        ExecStart { is_detached: from.boolean("Detach")?, tty: from.boolean("Tty")?, size: read_size(&mut from)? };
    from.finish()?;
    Ok(start)
}

/// Rows and columns.
pub(super) fn read_size(from: &mut Object<'_>) -> Result<(u16, u16), FieldError> {
    let bad = |from: &Object<'_>| from.bad("ConsoleSize", "is not a list of two numbers, rows and columns");
    match from.take("ConsoleSize") {
        None => Ok((0, 0)),
        Some(Value::Array(items)) => match &items[..] {
            [rows, columns] => {
                let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
                number(rows).zip(number(columns)).ok_or_else(|| bad(from))
            }
            _ => Err(bad(from)),
        },
        Some(_) => Err(bad(from)),
    }
}

pub(crate) fn write(view: &ExecView) -> Value {
    let spec = &view.spec;
    json!({
        "ID": view.id,
        "Running": view.is_running,
        "ExitCode": view.code,
        "ProcessConfig": {
            "tty": spec.tty,
            "entrypoint": spec.args.first(),
            "arguments": spec.args.get(1..).unwrap_or_default(),
            "privileged": spec.privileged,
            "user": spec.user,
        },
        "OpenStdin": spec.stdin,
        "OpenStderr": spec.stderr,
        "OpenStdout": spec.stdout,
        "CanRemove": view.code.is_some(),
        "ContainerID": view.container,
        "DetachKeys": spec.detach_keys,
        "Pid": view.pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_docker_cli_sends() {
        let body = json!({
            "User": "", "Privileged": false, "Tty": true, "ConsoleSize": [24, 80], "AttachStdin": true,
            "AttachStderr": true, "AttachStdout": true, "DetachKeys": "", "Env": null, "WorkingDir": "/tmp",
            "Cmd": ["sh", "-c", "true"],
        });
        let spec = read(&body).expect("it is good");
        assert_eq!((spec.size, spec.tty, spec.cwd.as_str()), ((24, 80), true, "/tmp"));
        assert_eq!(spec.args, ["sh", "-c", "true"]);
        let start = read_start(&json!({"Detach": false, "Tty": true, "ConsoleSize": [24, 80]})).expect("it is good");
        assert_eq!(start, ExecStart { is_detached: false, tty: true, size: (24, 80) });
    }

    #[test]
    fn bad_sizes_and_unknown_fields_are_named() {
        for bad in [json!({"ConsoleSize": 3}), json!({"ConsoleSize": [1]}), json!({"ConsoleSize": [1, 70000]})] {
            assert!(read(&bad).expect_err("bad").to_string().starts_with("ConsoleSize"), "{bad}");
        }
        assert!(read(&json!([])).is_err());
    }
}

//! What is told of commands in containers, those of clients and health checks alike: that one was made, is started, and
//! how it ended (parity E-42).

use crate::{clock::random, engine::Engine};

/// Exit code of a command of which nobody saw the end.
pub(in crate::engine) const CODE_UNKNOWN: i32 = 137;

/// Of a new command, 64 hexadecimal digits.
pub(super) fn new_id() -> String {
    (0..4).map(|_| format!("{:016x}", random())).collect()
}

impl Engine {
    /// With the command as Docker's events have it.
    pub(super) fn tell_exec(&self, container: &str, id: &str, action: &str, args: &[String]) {
        self.tell(container, &with_command(action, args), &[("execID", id)]);
    }

    pub(super) fn tell_exec_end(&self, container: &str, id: &str, code: i32) {
        self.tell(container, "exec_die", &[("execID", id), ("exitCode", &code.to_string())]);
    }
}

/// `exec_start: sh -c true`; Docker has the blank behind the program also where nothing comes after it.
fn with_command(action: &str, args: &[String]) -> String {
    let (program, rest) = args.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    format!("{action}: {program} {}", rest.join(" "))
}

/// A command that only whoever has it waits for, such as a health check.
pub(in crate::engine) struct Probe<'a> {
    engine: &'a Engine,
    container: &'a str,
    id: String,
    /// Told when it goes. Who does not come to say it was broken off, which kills the command.
    end: Option<i32>,
}

impl<'a> Probe<'a> {
    pub(in crate::engine) fn begin(engine: &'a Engine, container: &'a str, args: &[String]) -> Self {
        let id = new_id();
        for action in ["exec_create", "exec_start"] {
            engine.tell_exec(container, &id, action, args);
        }
        Self { engine, container, id, end: Some(CODE_UNKNOWN) }
    }

    /// Its exit code; `None` of one that was not executed, which has no end.
    pub(in crate::engine) fn ends(mut self, code: Option<i32>) {
        self.end = code;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(code) = self.end {
            self.engine.tell_exec_end(self.container, &self.id, code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::with_command;

    /// E-42: commands are told as Docker writes them.
    #[test]
    fn e_42_commands_are_told_as_docker_writes_them() {
        let told =
            |words: &[&str]| with_command("exec_start", &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!([told(&["sh", "-c", "true"]), told(&["true"])], ["exec_start: sh -c true", "exec_start: true "]);
    }
}

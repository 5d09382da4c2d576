//! Which container a text means: by full id, by name, or by the beginning of an id.

use runtime::{ContainerState, Status};

use super::{
    Engine,
    container::LABEL_TASK_NAME,
    refusal::{Refusal, RefusalKind},
};

/// A container, as far as its streams and files are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    pub id: String,
    /// Without a leading slash.
    pub name: String,
    pub tty: bool,
    pub open_stdin: bool,
    pub is_running: bool,
    pub is_paused: bool,
}

impl Engine {
    /// Finds the container that `text` means.
    ///
    /// # Errors
    /// If there is none, or several begin with it.
    pub async fn look_up(&self, text: &str) -> Result<ContainerRef, Refusal> {
        let all = self.inner.runtime.list().await.map_err(|error| Refusal::of_runtime(&error))?;
        choose(all.into_iter().map(reference), text)
    }
}

fn reference(state: ContainerState) -> ContainerRef {
    ContainerRef {
        name: state.labels.get(LABEL_TASK_NAME).cloned().unwrap_or_else(|| state.id.clone()),
        tty: state.tty,
        open_stdin: state.open_stdin,
        is_running: matches!(state.status, Status::Running | Status::Paused),
        is_paused: state.status == Status::Paused,
        id: state.id,
    }
}

fn choose(all: impl Iterator<Item = ContainerRef>, text: &str) -> Result<ContainerRef, Refusal> {
    let name = text.trim_start_matches('/');
    let mut begin = Vec::new();
    for container in all {
        if container.id == text || container.name == name {
            return Ok(container);
        }
        if !text.is_empty() && container.id.starts_with(text) {
            begin.push(container);
        }
    }
    match begin.len() {
        1 => Ok(begin.remove(0)),
        0 => Err(Refusal::new(RefusalKind::NotFound, format!("No such container: {text}"))),
        count => {
            let text =
                format!("multiple IDs found with provided prefix: {text} ({count} containers); give more digits");
            Err(Refusal::new(RefusalKind::Invalid, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_an_id_or_its_beginning() {
        let container = |id: &str, name: &str| ContainerRef {
            id: id.to_owned(),
            name: name.to_owned(),
            tty: false,
            open_stdin: false,
            is_running: true,
            is_paused: false,
        };
        let all = || [container("ab12", "web.1.x"), container("ab34", "db"), container("cd", "ab")].into_iter();
        for (text, wanted) in
            [("ab12", "ab12"), ("/web.1.x", "ab12"), ("db", "ab34"), ("ab3", "ab34"), ("ab", "cd"), ("c", "cd")]
        {
            assert_eq!(choose(all(), text).expect(text).id, wanted, "{text}");
        }
        assert_eq!(choose(all(), "x").expect_err("none").message, "No such container: x");
        assert_eq!(choose(all(), "").expect_err("none").kind, RefusalKind::NotFound);
        assert!(choose(all(), "a").expect_err("two").message.starts_with("multiple IDs found"));
    }
}

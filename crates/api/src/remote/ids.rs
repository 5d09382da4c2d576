//! Ids of commands in containers of other nodes: the node's own id of the command, a dot, the id of the node. So any
//! manager can tell where a command is, after a restart too, and none keeps a list. Pure.

use serde_json::Value;
use types::NodeId;

use super::target::{Noun, Target};

/// The command and its node; `None` for one of this host.
pub(super) fn apart(id: &str) -> Option<(&str, NodeId)> {
    let (command, node) = id.split_once('.')?;
    Some((command, node.parse().ok()?))
}

/// Whether the answer to a request names commands.
pub(super) fn has_some(target: &Target) -> bool {
    matches!((target.noun, target.rest.as_str()), (Noun::Container, "exec" | "json") | (Noun::Exec, "json"))
}

/// Makes the ids of an answer what this host's clients may ask for.
pub(super) fn name_node(target: &Target, answer: &mut Value, node: NodeId) {
    let add = |id: &mut Value| {
        if let Value::String(text) = id {
            *text = format!("{text}.{node}");
        }
    };
    match (target.noun, target.rest.as_str()) {
        (Noun::Container, "exec") => answer.get_mut("Id").into_iter().for_each(add),
        (Noun::Container, _) => {
            let ids = answer.get_mut("ExecIDs").and_then(Value::as_array_mut);
            ids.into_iter().flatten().for_each(add);
        }
        (Noun::Exec, _) => answer.get_mut("ID").into_iter().for_each(add),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::json;

    use super::*;

    #[test]
    fn p_21_ids_of_commands_say_where_they_are() {
        let node = NodeId::from_random(7);
        let shown = |method: Method, path: &str, mut answer: Value| {
            let target = Target::parse(&method, path).expect("a target");
            assert!(has_some(&target));
            name_node(&target, &mut answer, node);
            answer
        };
        let named = format!("ab12.{node}");
        assert_eq!(shown(Method::POST, "/containers/a/exec", json!({ "Id": "ab12" })), json!({ "Id": named }));
        assert_eq!(
            shown(Method::GET, "/exec/a/json", json!({ "ID": "ab12", "Pid": 1 })),
            json!({ "ID": named, "Pid": 1 })
        );
        let inspected = shown(Method::GET, "/containers/a/json", json!({ "Id": "c", "ExecIDs": ["ab12"] }));
        assert_eq!(inspected, json!({ "Id": "c", "ExecIDs": [named] }));
        assert_eq!(shown(Method::GET, "/containers/a/json", json!({ "ExecIDs": null })), json!({ "ExecIDs": null }));
        assert_eq!(apart(&named), Some(("ab12", node)));
        for local in ["ab12", "ab12.", "ab12.x", ""] {
            assert_eq!(apart(local), None, "{local}");
        }
    }
}

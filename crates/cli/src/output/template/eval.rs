//! Running a template on a value.

use serde_json::Value;

use super::{
    TemplateError, functions,
    parser::{Node, Operand, Pipeline, Start},
};

/// Fields that the API leaves out when they are empty: reading them gives nothing. Any other absent
/// field is a spelling mistake and an error.
const OPTIONAL: [&str; 59] = [
    "Addr",
    "Aliases",
    "Args",
    "BindOptions",
    "CapabilityAdd",
    "CapabilityDrop",
    "Cluster",
    "Command",
    "CompletedAt",
    "ContainerStatus",
    "DNSConfig",
    "Delay",
    "Dir",
    "Disconnect",
    "DriverOpts",
    "Endpoint",
    "EndpointSpec",
    "Env",
    "Err",
    "GenericResources",
    "Groups",
    "Healthcheck",
    "Hostname",
    "Hosts",
    "Init",
    "Labels",
    "Leader",
    "Limits",
    "LogDriver",
    "ManagerStatus",
    "MaxReplicas",
    "Message",
    "Monitor",
    "Mounts",
    "Name",
    "Networks",
    "NetworksAttachments",
    "NodeID",
    "Options",
    "Placement",
    "Ports",
    "PreviousSpec",
    "Privileges",
    "PublishedPort",
    "ReadOnly",
    "Reservations",
    "Resources",
    "RestartPolicy",
    "RollbackConfig",
    "ServiceStatus",
    "Slot",
    "StopGracePeriod",
    "StopSignal",
    "UnreachablePeers",
    "UpdateConfig",
    "UpdateStatus",
    "User",
    "VirtualIPs",
    "Window",
];

pub(super) fn run(nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    run_with(nodes, value, false)
}

/// Functions pass their last argument on, so that `{{upper .Name}}` heads its column `NAME`.
pub(super) fn run_heading(nodes: &[Node], titles: &Value) -> Result<String, TemplateError> {
    run_with(nodes, titles, true)
}

fn run_with(nodes: &[Node], value: &Value, is_heading: bool) -> Result<String, TemplateError> {
    let mut scope =
        Scope { dot: value.clone(), variables: vec![(String::new(), value.clone())], out: String::new(), is_heading };
    scope.nodes(nodes)?;
    Ok(scope.out)
}

struct Scope {
    dot: Value,
    /// Innermost last; `$` is the one with the empty name.
    variables: Vec<(String, Value)>,
    out: String,
    is_heading: bool,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), TemplateError> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline)?;
                self.out.push_str(&functions::print(&value));
            }
            Node::Assign(name, pipeline) => {
                let value = self.pipeline(pipeline)?;
                match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    Some((_, slot)) => *slot = value,
                    None => self.variables.push((name.clone(), value)),
                }
            }
            Node::If { test, then, otherwise } => {
                let value = self.pipeline(test)?;
                let branch = if functions::is_true(&value) { then } else { otherwise };
                self.inner(branch, None, &[])?;
            }
            Node::With { value, then, otherwise } => {
                let value = self.pipeline(value)?;
                match functions::is_true(&value) {
                    true => self.inner(then, Some(value), &[])?,
                    false => self.inner(otherwise, None, &[])?,
                }
            }
            Node::Range { key, item, over, each, otherwise } => {
                let entries = entries(self.pipeline(over)?)?;
                if entries.is_empty() {
                    return self.inner(otherwise, None, &[]);
                }
                for (name, value) in entries {
                    let bound = [(key.as_ref(), &name), (item.as_ref(), &value)];
                    self.inner(each, Some(value.clone()), &bound)?;
                }
            }
        }
        Ok(())
    }

    /// A block with its own dot and variables.
    fn inner(
        &mut self,
        nodes: &[Node],
        dot: Option<Value>,
        bound: &[(Option<&String>, &Value)],
    ) -> Result<(), TemplateError> {
        let outer = dot.map(|dot| std::mem::replace(&mut self.dot, dot));
        let depth = self.variables.len();
        for (name, value) in bound {
            if let Some(name) = name {
                self.variables.push(((*name).clone(), (*value).clone()));
            }
        }
        let result = self.nodes(nodes);
        self.variables.truncate(depth);
        if let Some(outer) = outer {
            self.dot = outer;
        }
        result
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value, TemplateError> {
        let mut result: Option<Value> = None;
        for command in &pipeline.0 {
            result = Some(self.command(command, result)?);
        }
        result.ok_or_else(|| TemplateError::Run("empty pipeline".to_owned()))
    }

    fn command(&self, operands: &[Operand], piped: Option<Value>) -> Result<Value, TemplateError> {
        let (first, rest) = operands.split_first().ok_or_else(|| TemplateError::Run("empty command".to_owned()))?;
        let Operand::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err(TemplateError::Run("a value is not a function and takes no arguments".to_owned()));
            }
            return self.operand(first);
        };
        let mut arguments: Vec<Value> = rest.iter().map(|o| self.operand(o)).collect::<Result<_, _>>()?;
        arguments.extend(piped);
        match self.is_heading {
            true => Ok(arguments.pop().unwrap_or_default()),
            false => functions::call(name, &arguments),
        }
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        let (start, fields) = match operand {
            Operand::Literal(value) => return Ok(value.clone()),
            Operand::Function(name) => return functions::call(name, &[]),
            Operand::Path(start, fields) => (start, fields),
        };
        let mut value = match start {
            Start::Dot => self.dot.clone(),
            Start::Pipeline(pipeline) => self.pipeline(pipeline)?,
            Start::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.ok_or_else(|| TemplateError::Run(format!("undefined variable ${name}")))?.1.clone()
            }
        };
        for (at, field) in fields.iter().enumerate() {
            value = match &mut value {
                Value::Object(map) => match map.remove(field) {
                    Some(inner) => inner,
                    None if OPTIONAL.contains(&field.as_str()) => Value::Null,
                    None => return Err(no_field(fields, at, map)),
                },
                Value::Null => Value::Null,
                _ => return Err(TemplateError::Run(format!(".{}: a text or number has no fields", fields.join(".")))),
            };
        }
        Ok(value)
    }
}

fn no_field(fields: &[String], at: usize, map: &serde_json::Map<String, Value>) -> TemplateError {
    let mut known: Vec<&str> = map.keys().map(String::as_str).collect();
    known.sort_unstable();
    TemplateError::Run(format!(
        "no field {:?} in .{} (there are {})",
        fields[at],
        fields[..at].join("."),
        known.join(", ")
    ))
}

fn entries(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect()),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            // As Go does for maps.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(entries.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
        }
        other => Err(TemplateError::Run(format!("range can't iterate over {}", functions::print(&other)))),
    }
}

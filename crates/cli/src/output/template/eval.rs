//! Running a template on a value.

use serde_json::{Map, Value};
use types::Labels;

use super::{
    TemplateError, functions, optional,
    parser::{Node, Operand, Pipeline, Start},
};

/// On an object, or on a line of a list that may have labels.
pub(super) fn run(nodes: &[Node], value: &Value, labels: Option<&Labels>) -> Result<String, TemplateError> {
    run_with(nodes, value, labels, false)
}

/// On the titles of a table's columns.
pub(super) fn run_heading(nodes: &[Node], titles: &Value) -> Result<String, TemplateError> {
    run_with(nodes, titles, None, true)
}

fn run_with(nodes: &[Node], value: &Value, labels: Option<&Labels>, is_heading: bool) -> Result<String, TemplateError> {
    let variables = vec![(String::new(), value.clone())];
    let mut scope = Scope { dot: value.clone(), variables, labels, out: String::new(), is_heading };
    scope.nodes(nodes)?;
    Ok(scope.out)
}

struct Scope<'a> {
    dot: Value,
    /// Innermost last; `$` is the one with the empty name.
    variables: Vec<(String, Value)>,
    /// What `.Label "KEY"` looks in; `None` where nothing has labels.
    labels: Option<&'a Labels>,
    out: String,
    is_heading: bool,
}

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<Flow, TemplateError> {
        for node in nodes {
            match self.node(node)? {
                Flow::On => {}
                left => return Ok(left),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline)?;
                self.out.push_str(&functions::print(&value));
            }
            Node::Declare(name, pipeline) => {
                let value = self.pipeline(pipeline)?;
                self.variables.push((name.clone(), value));
            }
            Node::Assign(name, pipeline) => {
                let value = self.pipeline(pipeline)?;
                let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                found.ok_or_else(|| undefined(name))?.1 = value;
            }
            Node::If { variable, test, then, otherwise } => {
                let value = self.pipeline(test)?;
                let branch = if functions::is_true(&value) { then } else { otherwise };
                return self.inner(branch, None, &[(variable.as_ref(), &value)]);
            }
            Node::With { variable, value, then, otherwise } => {
                let value = self.pipeline(value)?;
                let bound = [(variable.as_ref(), &value)];
                return match functions::is_true(&value) {
                    true => self.inner(then, Some(value.clone()), &bound),
                    false => self.inner(otherwise, None, &bound),
                };
            }
            Node::Range { key, item, over, each, otherwise } => {
                let entries = self.entries(over)?;
                if entries.is_empty() {
                    return self.inner(otherwise, None, &[]);
                }
                for (name, value) in entries {
                    let bound = [(key.as_ref(), &name), (item.as_ref(), &value)];
                    if self.inner(each, Some(value.clone()), &bound)? == Flow::Break {
                        break;
                    }
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// A block with its own dot and variables.
    fn inner(
        &mut self,
        nodes: &[Node],
        dot: Option<Value>,
        bound: &[(Option<&String>, &Value)],
    ) -> Result<Flow, TemplateError> {
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

    /// What a range goes over: keys and values. A title goes through it whole.
    fn entries(&self, over: &Pipeline) -> Result<Vec<(Value, Value)>, TemplateError> {
        match self.pipeline(over)? {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => {
                Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect())
            }
            Value::Object(map) => {
                let mut entries: Vec<_> = map.into_iter().collect();
                // As Go does for maps.
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(entries.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
            }
            title if self.is_heading => Ok(vec![(Value::from(0), title)]),
            other => Err(TemplateError::Run(format!("range can't iterate over {}", functions::print(&other)))),
        }
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
        match first {
            Operand::Function(name) => self.function(name, rest, piped),
            Operand::Path(_, fields) if self.has_labels() && fields.len() == 1 && fields[0] == "Label" => {
                let arguments = self.arguments(rest, piped)?;
                match &arguments[..] {
                    [key] => Ok(Value::String(self.label(&functions::print(key)))),
                    arguments => Err(functions::wrong_count("Label", arguments.len())),
                }
            }
            first if rest.is_empty() && piped.is_none() => self.operand(first),
            _ => Err(TemplateError::Run("a value is not a function and takes no arguments".to_owned())),
        }
    }

    fn arguments(&self, operands: &[Operand], piped: Option<Value>) -> Result<Vec<Value>, TemplateError> {
        operands.iter().map(|operand| self.operand(operand)).chain(piped.map(Ok)).collect()
    }

    fn function(&self, name: &str, operands: &[Operand], piped: Option<Value>) -> Result<Value, TemplateError> {
        match name {
            "and" => return self.first(name, false, operands, piped),
            "or" => return self.first(name, true, operands, piped),
            _ => {}
        }
        let arguments = self.arguments(operands, piped)?;
        match self.is_heading {
            true => Ok(functions::call_on_title(name, &arguments)),
            false => functions::call(name, &arguments),
        }
    }

    /// The first that is as wanted, else the last: `and` gives the first false one, `or` the first true one. What comes
    /// behind it is not looked at, so that `and .Ports (index .Ports 0)` can be written.
    fn first(
        &self,
        name: &str,
        wanted: bool,
        operands: &[Operand],
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand)?;
            if functions::is_true(&value) == wanted {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| functions::wrong_count(name, 0))
    }

    fn has_labels(&self) -> bool {
        self.is_heading || self.labels.is_some()
    }

    /// The value of a label, empty if there is none; the title of its column is the key's last part.
    fn label(&self, key: &str) -> String {
        match self.labels {
            Some(labels) => labels.get(key).cloned().unwrap_or_default(),
            None => key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " "),
        }
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        let (start, fields) = match operand {
            Operand::Literal(value) => return Ok(value.clone()),
            Operand::Function(name) => return self.function(name, &[], None),
            Operand::Path(start, fields) => (start, fields),
        };
        let mut value = match start {
            Start::Dot => self.dot.clone(),
            Start::Pipeline(pipeline) => self.pipeline(pipeline)?,
            Start::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.ok_or_else(|| undefined(name))?.1.clone()
            }
        };
        for at in 0..fields.len() {
            value = match value {
                Value::Object(map) => field(map, fields, at)?,
                Value::Null => Value::Null,
                _ => return Err(TemplateError::Run(format!(".{}: a text or number has no fields", fields.join(".")))),
            };
        }
        Ok(value)
    }
}

/// The field by its name in JSON, or by that in Docker's own types, which differs by case alone: `Id` is `ID` there.
fn field(mut map: Map<String, Value>, fields: &[String], at: usize) -> Result<Value, TemplateError> {
    let name = &fields[at];
    if let Some(value) = map.remove(name) {
        return Ok(value);
    }
    if at > 0 && optional::has_keys_of_its_own(&fields[at - 1]) {
        return Ok(Value::Null);
    }
    let other = map.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    match other.and_then(|key| map.remove(&key)) {
        Some(value) => Ok(value),
        None if optional::may_be_absent(name) => Ok(Value::Null),
        None => Err(no_field(fields, at, &map)),
    }
}

fn no_field(fields: &[String], at: usize, map: &Map<String, Value>) -> TemplateError {
    let mut known: Vec<&str> = map.keys().map(String::as_str).collect();
    known.sort_unstable();
    TemplateError::Run(format!(
        "no field {:?} in .{} (there are {})",
        fields[at],
        fields[..at].join("."),
        known.join(", ")
    ))
}

fn undefined(variable: &str) -> TemplateError {
    TemplateError::Run(format!("undefined variable ${variable}"))
}

//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::TemplateError;

/// Go's truth: not empty, not zero, not nil.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Go's `%v`.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", print(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let text = |at: usize| arguments.get(at).map(print).unwrap_or_default();
    let count = |wanted: usize| match arguments.len() == wanted {
        true => Ok(()),
        false => Err(TemplateError::Run(format!(
            "wrong number of arguments for {name}: want {wanted} got {}",
            arguments.len()
        ))),
    };
    Ok(match name {
        "json" => {
            count(1)?;
            Value::String(arguments[0].to_string())
        }
        "join" => {
            count(2)?;
            let Value::Array(items) = &arguments[0] else {
                return Err(TemplateError::Run("join wants a list and a separator".to_owned()));
            };
            Value::String(items.iter().map(print).collect::<Vec<_>>().join(&text(1)))
        }
        "split" => {
            count(2)?;
            text(0).split(&text(1)).map(Value::from).collect()
        }
        "lower" => count(1).map(|()| Value::String(text(0).to_lowercase()))?,
        "upper" => count(1).map(|()| Value::String(text(0).to_uppercase()))?,
        "title" => count(1).map(|()| Value::String(title(&text(0))))?,
        "pad" => {
            count(3)?;
            let spaces = |at: usize| " ".repeat(arguments[at].as_u64().unwrap_or(0).min(MAX_PAD) as usize);
            Value::String(format!("{}{}{}", spaces(1), text(0), spaces(2)))
        }
        "truncate" => {
            count(2)?;
            let length = arguments[1].as_u64().unwrap_or(0).min(usize::MAX as u64) as usize;
            Value::String(text(0).chars().take(length).collect())
        }
        "print" => Value::String(arguments.iter().map(print).collect()),
        "println" => Value::String(arguments.iter().map(print).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::String(printf(&text(0), arguments.get(1..).unwrap_or_default())),
        "len" => count(1).map(|()| Value::from(length(&arguments[0])))?,
        "index" => {
            let first = arguments.first().cloned().unwrap_or_default();
            arguments.iter().skip(1).try_fold(first, |value, key| index(&value, key))?
        }
        "not" => count(1).map(|()| Value::Bool(!is_true(&arguments[0])))?,
        "and" => choose(arguments, false),
        "or" => choose(arguments, true),
        "eq" => {
            Value::Bool(arguments.iter().skip(1).any(|other| compare(&arguments[0], other) == Some(Ordering::Equal)))
        }
        "ne" => count(2).map(|()| Value::Bool(compare(&arguments[0], &arguments[1]) != Some(Ordering::Equal)))?,
        "lt" | "le" | "gt" | "ge" => count(2).and_then(|()| ordered(name, arguments))?,
        unknown => return Err(TemplateError::Parse(format!("function {unknown:?} not defined"))),
    })
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::String(text) => text.len(),
        _ => 0,
    }
}

fn ordered(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let order = compare(&arguments[0], &arguments[1])
        .ok_or_else(|| TemplateError::Run(format!("{name}: values of different kinds")))?;
    Ok(Value::Bool(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// More blanks than any terminal is wide.
const MAX_PAD: u64 = 1000;

/// `and` gives the first false argument, `or` the first true one, else the last.
fn choose(arguments: &[Value], wanted: bool) -> Value {
    arguments.iter().find(|value| is_true(value) == wanted).or(arguments.last()).cloned().unwrap_or_default()
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        match start {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        start = c.is_whitespace();
    }
    out
}

fn index(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::Object(map), Value::String(name)) => Ok(map.get(name).cloned().unwrap_or_default()),
        (Value::Array(items), Value::Number(at)) => {
            let at = at.as_u64().map_or(usize::MAX, |at| at as usize);
            items.get(at).cloned().ok_or_else(|| TemplateError::Run(format!("index out of range: {key}")))
        }
        (Value::Null, _) => Ok(Value::Null),
        _ => Err(TemplateError::Run(format!("cannot index {} with {}", print(value), print(key)))),
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => (a == b).then_some(Ordering::Equal),
    }
}

/// `%s %v %d %q %%`, with a width and a minus sign.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut next = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == '-') {
            flags.push(c);
        }
        let value = match chars.next() {
            Some('%') => {
                out.push('%');
                continue;
            }
            Some('q') => format!("{:?}", next.next().map(print).unwrap_or_default()),
            Some(_) => next.next().map_or_else(|| "%!(MISSING)".to_owned(), print),
            None => "%!(NOVERB)".to_owned(),
        };
        let width = flags.trim_start_matches('-').parse::<u64>().unwrap_or(0).min(MAX_PAD) as usize;
        let padded = if flags.starts_with('-') { format!("{value:<width$}") } else { format!("{value:>width$}") };
        out.push_str(&padded);
    }
    out
}

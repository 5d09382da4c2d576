//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::{TemplateError, printf::printf};

/// All that there are; others are refused when a template is read. `and` and `or` are the evaluation's own, which looks at no
/// more of their arguments than it needs.
pub(super) const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// More blanks than any terminal is wide.
pub(super) const MAX_PAD: usize = 1000;

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
    Ok(match (name, arguments) {
        ("json", [value]) => Value::String(value.to_string()),
        ("join", [list, _]) => Value::String(join(list, &text(1))?),
        ("split", [_, _]) => split(&text(0), &text(1)),
        ("lower", [_]) => Value::String(text(0).to_lowercase()),
        ("upper", [_]) => Value::String(text(0).to_uppercase()),
        ("title", [_]) => Value::String(title(&text(0))),
        ("pad", [_, before, after]) => Value::String(pad(text(0), number(before), number(after))),
        ("truncate", [_, length]) => Value::String(text(0).chars().take(number(length)).collect()),
        ("print", _) => Value::String(print_all(arguments)),
        ("println", _) => Value::String(arguments.iter().map(print).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [_, rest @ ..]) => Value::String(printf(&text(0), rest)),
        ("len", [value]) => Value::from(length("len", value)?),
        ("index", [first, keys @ ..]) => keys.iter().try_fold(first.clone(), |value, key| index(&value, key))?,
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds)?,
        ("not", [value]) => Value::Bool(!is_true(value)),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut found = false;
            for other in others {
                found |= compare(name, first, other)?.is_eq();
            }
            Value::Bool(found)
        }
        ("ne", [a, b]) => Value::Bool(compare(name, a, b)?.is_ne()),
        ("lt", [a, b]) => Value::Bool(compare(name, a, b)?.is_lt()),
        ("le", [a, b]) => Value::Bool(compare(name, a, b)?.is_le()),
        ("gt", [a, b]) => Value::Bool(compare(name, a, b)?.is_gt()),
        ("ge", [a, b]) => Value::Bool(compare(name, a, b)?.is_ge()),
        _ => return Err(wrong_count(name, arguments.len())),
    })
}

/// The same of a column's title: what takes a value apart or changes it leaves the title as it is, so that
/// `{{upper .Name}}` heads its column `NAME`. What cannot be done with a title leaves nothing, as in docker.
pub(super) fn call_on_title(name: &str, arguments: &[Value]) -> Value {
    match name {
        "index" | "join" | "json" | "lower" | "slice" | "split" | "title" | "truncate" | "upper" => {
            arguments.first().cloned().unwrap_or_default()
        }
        _ => call(name, arguments).unwrap_or_default(),
    }
}

pub(super) fn wrong_count(name: &str, count: usize) -> TemplateError {
    TemplateError::Run(format!("wrong number of arguments for {name}: got {count}"))
}

/// What is no number is 0; more than there is of anything is as much as there is.
fn number(value: &Value) -> usize {
    value.as_u64().map_or(0, |number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// What the API leaves out, or has as null, is an empty list.
fn join(list: &Value, separator: &str) -> Result<String, TemplateError> {
    let mut texts: Vec<String> = match list {
        Value::Null => Vec::new(),
        Value::Array(items) => return Ok(items.iter().map(print).collect::<Vec<_>>().join(separator)),
        Value::Object(map) => map.values().map(print).collect(),
        other => {
            return Err(TemplateError::Run(format!("join: expected a list and a separator, got {}", kind(other))));
        }
    };
    texts.sort();
    Ok(texts.join(separator))
}

/// By nothing: into characters.
fn split(text: &str, separator: &str) -> Value {
    match separator.is_empty() {
        true => text.chars().map(|c| Value::from(c.to_string())).collect(),
        false => text.split(separator).map(Value::from).collect(),
    }
}

/// Nothing stays nothing.
fn pad(text: String, before: usize, after: usize) -> String {
    let blanks = |count: usize| " ".repeat(count.min(MAX_PAD));
    if text.is_empty() { text } else { format!("{}{text}{}", blanks(before), blanks(after)) }
}

/// A blank between two that are no texts.
fn print_all(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&print(value));
    }
    out
}

/// Words begin behind anything but letters, digits and `_`.
fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        match start {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        start = if c.is_ascii() { !c.is_ascii_alphanumeric() && c != '_' } else { c.is_whitespace() };
    }
    out
}

fn length(function: &str, value: &Value) -> Result<usize, TemplateError> {
    match value {
        Value::Null => Ok(0),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        Value::String(text) => Ok(text.len()),
        other => Err(TemplateError::Run(format!("{function}: {} has no length", kind(other)))),
    }
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

/// From the first bound to before the second. Of a text they count bytes, as in Go.
fn slice(value: &Value, bounds: &[Value]) -> Result<Value, TemplateError> {
    let length = match value {
        Value::Object(_) => return Err(TemplateError::Run("slice: a map has no order".to_owned())),
        value => length("slice", value)?,
    };
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        None => Ok(otherwise),
        Some(bound) => {
            let place = bound.as_u64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place <= length);
            place.ok_or_else(|| TemplateError::Run(format!("slice: index out of range: {bound}")))
        }
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(TemplateError::Run(format!("slice: invalid slice index: {from} > {to}")));
    }
    Ok(match value {
        Value::Array(items) => Value::from(&items[from..to]),
        Value::String(text) => Value::String(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        _ => Value::Null,
    })
}

/// Nothing is as good as what is empty: the API leaves such fields out.
fn compare(function: &str, a: &Value, b: &Value) -> Result<Ordering, TemplateError> {
    let order = match (a, b) {
        _ if a == b => Some(Ordering::Equal),
        (Value::Number(a), Value::Number(b)) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, other) => Some(if is_true(other) { Ordering::Less } else { Ordering::Equal }),
        (other, Value::Null) => Some(if is_true(other) { Ordering::Greater } else { Ordering::Equal }),
        _ => None,
    };
    order.ok_or_else(|| {
        TemplateError::Run(format!("{function}: incompatible types for comparison: {} and {}", kind(a), kind(b)))
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

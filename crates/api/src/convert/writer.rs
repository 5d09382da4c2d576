//! Building a JSON object in the order Docker prints it, leaving out what Docker leaves out.

use serde::Serialize;
use serde_json::{Map, Value};

/// An object under construction.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Always there.
    pub(crate) fn set(self, name: &str, value: impl Serialize) -> Self {
        self.put(name, to_value(value))
    }

    /// Always there; what is JSON already is not copied, however deep it is.
    pub(crate) fn put(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// There unless null, `""`, 0, `false`, `[]` or `{}`: Go's `omitempty`.
    pub(crate) fn unless_empty(self, name: &str, value: impl Serialize) -> Self {
        let value = to_value(value);
        let empty = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Bool(true) => false,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
        };
        if empty { self } else { self.put(name, value) }
    }

    pub(crate) fn some(self, name: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("maps with text keys, texts and numbers are all JSON")
}

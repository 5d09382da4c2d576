//! A line of a list.

use std::collections::BTreeMap;

use serde_json::Value;
use types::Labels;

/// The texts of its fields, and the labels of what it shows.
#[derive(Debug)]
pub(crate) struct Row {
    /// By name. Ordered, as docker prints such objects.
    pub(super) fields: BTreeMap<&'static str, String>,
    /// What templates ask for by `.Label "KEY"`; `None` where what is listed has none.
    pub(super) labels: Option<Labels>,
}

impl<const N: usize> From<[(&'static str, String); N]> for Row {
    fn from(fields: [(&'static str, String); N]) -> Self {
        Self { fields: fields.into(), labels: None }
    }
}

/// A field that must be there.
#[cfg(test)]
impl std::ops::Index<&str> for Row {
    type Output = String;

    fn index(&self, field: &str) -> &String {
        &self.fields[field]
    }
}

impl Row {
    /// With one more field.
    pub(crate) fn with(mut self, field: &'static str, text: String) -> Self {
        self.fields.insert(field, text);
        self
    }

    /// With the API's labels: all of them in the field `Labels`, and each by its key.
    pub(crate) fn with_labels(mut self, labels: &Value) -> Self {
        let value = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels: Labels =
            labels.as_object().into_iter().flatten().map(|(key, text)| (key.clone(), value(text))).collect();
        let all: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.fields.insert("Labels", all.join(","));
        self.labels = Some(labels);
        self
    }
}

//! Reading a JSON object field by field, knowing where one is and what was left over.
//!
//! Used by the conversions from Docker's JSON. Every value of the request is either taken by a
//! conversion, or reported by [`Object::finish`] with its path if Docker's API knows it; an empty value (null, `""`, 0,
//! `false`, `[]`, `{}`) says nothing and may be left over.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};
use types::Labels;

/// Fields of the API (moby `api/swagger.yaml`, 1.51) that no conversion takes, or not everywhere.
const NOT_HERE: &[&str] = &[
    "BindOptions",
    "Cgroup",
    "ClusterOptions",
    "ClusterVolumeSpec",
    "CpuCount",
    "CpuPercent",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CredentialSpec",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "DiscreteResourceSpec",
    "DriverOpts",
    "ImageOptions",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "KernelMemoryTCP",
    "NamedResourceSpec",
    "NetworkAttachmentSpec",
    "PluginSpec",
    "TmpfsOptions",
    "Ulimits",
    "VolumeOptions",
];

/// A request that cannot be honoured, with the JSON path of the value at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("{path} must be {wanted}, not {found}")]
    Type { path: String, wanted: &'static str, found: String },
    #[error("{path}: {reason}")]
    Value { path: String, reason: String },
    #[error("{path} is missing: {hint}")]
    Missing { path: String, hint: &'static str },
    #[error("{path} is not supported yet: leave it out of the request")]
    Unsupported { path: String },
    /// Docker looks for a plugin where it has no driver of that name, and finds none.
    #[error("{path}: plugin {name:?} not found: {hint}")]
    NoPlugin { path: String, name: String, hint: &'static str },
}

impl FieldError {
    /// Of something within a larger request.
    pub(crate) fn within(self, outer: &str) -> Self {
        let inside = |path: String| if path == BODY { outer.to_owned() } else { format!("{outer}.{path}") };
        match self {
            Self::Type { path, wanted, found } => Self::Type { path: inside(path), wanted, found },
            Self::Value { path, reason } => Self::Value { path: inside(path), reason },
            Self::Missing { path, hint } => Self::Missing { path: inside(path), hint },
            Self::Unsupported { path } => Self::Unsupported { path: inside(path) },
            Self::NoPlugin { path, name, hint } => Self::NoPlugin { path: inside(path), name, hint },
        }
    }
}

/// The path of what has none.
const BODY: &str = "the request body";

/// One entry of an object whose keys are the user's own.
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    pub(crate) path: String,
    pub(crate) value: &'a Value,
}

impl Entry<'_> {
    pub(crate) fn bad(&self, reason: impl Into<String>) -> FieldError {
        FieldError::Value { path: self.path.clone(), reason: reason.into() }
    }
}

/// One JSON object of the request.
pub(crate) struct Object<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    taken: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    /// The whole body; its fields have bare names as paths.
    pub(crate) fn root(value: &'a Value) -> Result<Self, FieldError> {
        Self::at(String::new(), value)
    }

    /// An object of which one has the value already.
    pub(crate) fn at(path: String, value: &'a Value) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Self { path, map: Some(map), taken: BTreeSet::new() }),
            Value::Null => Ok(Self { path, map: None, taken: BTreeSet::new() }),
            other => {
                let path = if path.is_empty() { BODY.to_owned() } else { path };
                Err(wrong_type(path, "an object", other))
            }
        }
    }

    pub(crate) fn path(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// The value of a field as it is; null counts as absent. Names are matched as Go matches them:
    /// exactly, else without regard to case.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<&'a Value> {
        self.taken.insert(field);
        let map = self.map?;
        let found = map
            .get(field)
            .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    /// A field's object; an absent one reads as an empty one.
    pub(crate) fn object(&mut self, field: &'static str) -> Result<Object<'a>, FieldError> {
        let path = self.path(field);
        match self.take(field) {
            Some(value) => Object::at(path, value),
            None => Ok(Object { path, map: None, taken: BTreeSet::new() }),
        }
    }

    /// Whether the field is there, be it as an empty object.
    pub(crate) fn has(&mut self, field: &'static str) -> bool {
        self.take(field).is_some()
    }

    pub(crate) fn objects(&mut self, field: &'static str) -> Result<Vec<Object<'a>>, FieldError> {
        let path = self.path(field);
        let items = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong_type(path, "a list", other)),
        };
        items.iter().enumerate().map(|(at, item)| Object::at(format!("{path}[{at}]"), item)).collect()
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<String, FieldError> {
        let path = self.path(field);
        match self.take(field) {
            None => Ok(String::new()),
            Some(Value::String(text)) => plain(path, text),
            Some(other) => Err(wrong_type(path, "a text", other)),
        }
    }

    pub(crate) fn strings(&mut self, field: &'static str) -> Result<Vec<String>, FieldError> {
        let path = self.path(field);
        let items = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong_type(path, "a list of texts", other)),
        };
        let text = |(at, item): (usize, &Value)| match item {
            Value::String(text) => plain(format!("{path}[{at}]"), text),
            other => Err(wrong_type(format!("{path}[{at}]"), "a text", other)),
        };
        items.iter().enumerate().map(text).collect()
    }

    /// `[["uid", "1000"], ["exec"]]`
    pub(crate) fn string_lists(&mut self, field: &'static str) -> Result<Vec<Vec<String>>, FieldError> {
        let path = self.path(field);
        let items = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong_type(path, "a list of lists of texts", other)),
        };
        let list = |(at, item): (usize, &Value)| {
            let texts = item.as_array().and_then(|texts| {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
            });
            texts.ok_or_else(|| wrong_type(format!("{path}[{at}]"), "a list of texts", item))
        };
        items.iter().enumerate().map(list).collect()
    }

    pub(crate) fn labels(&mut self, field: &'static str) -> Result<Labels, FieldError> {
        let path = self.path(field);
        let entries = match self.take(field) {
            None => return Ok(Labels::new()),
            Some(Value::Object(entries)) => entries,
            Some(other) => return Err(wrong_type(path, "an object of texts", other)),
        };
        let entry = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((plain(path.clone(), key)?, plain(format!("{path}.{key}"), text)?)),
            other => Err(wrong_type(format!("{path}.{key}"), "a text", other)),
        };
        entries.iter().map(entry).collect()
    }

    /// The entries of an object whose keys are the user's own, each with its path.
    pub(crate) fn entries(&mut self, field: &'static str) -> Result<Vec<Entry<'a>>, FieldError> {
        let path = self.path(field);
        let entries = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Object(entries)) => entries,
            Some(other) => return Err(wrong_type(path, "an object", other)),
        };
        let entry = |(key, value): (&'a String, &'a Value)| Entry { key, path: format!("{path}.{key}"), value };
        Ok(entries.iter().map(entry).collect())
    }

    /// A list of texts, or one text, as Docker takes commands.
    pub(crate) fn words(&mut self, field: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(_)) => Ok(Some(vec![self.string(field)?])),
            Some(_) => self.strings(field).map(Some),
        }
    }

    pub(crate) fn boolean(&mut self, field: &'static str) -> Result<bool, FieldError> {
        let path = self.path(field);
        match self.take(field) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(wrong_type(path, "true or false", other)),
        }
    }

    pub(crate) fn integer(&mut self, field: &'static str) -> Result<Option<i64>, FieldError> {
        let path = self.path(field);
        self.take(field)
            .map(|value| value.as_i64().ok_or_else(|| wrong_type(path, "a whole number", value)))
            .transpose()
    }

    /// A whole number that is not negative.
    pub(crate) fn natural(&mut self, field: &'static str) -> Result<Option<u64>, FieldError> {
        let path = self.path(field);
        self.take(field)
            .map(|value| value.as_u64().ok_or_else(|| wrong_type(path, "a whole number, 0 or more", value)))
            .transpose()
    }

    pub(crate) fn fraction(&mut self, field: &'static str) -> Result<Option<f64>, FieldError> {
        let path = self.path(field);
        self.take(field).map(|value| value.as_f64().ok_or_else(|| wrong_type(path, "a number", value))).transpose()
    }

    /// Nanoseconds, as Docker writes durations.
    pub(crate) fn duration(&mut self, field: &'static str) -> Result<Option<Duration>, FieldError> {
        Ok(self.natural(field)?.map(Duration::from_nanos))
    }

    /// A text that stands for a value of `T`; absent or empty gives `None`.
    pub(crate) fn parsed<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, FieldError> {
        let text = self.string(field)?;
        if text.is_empty() {
            return Ok(None);
        }
        parse(&text).map(Some).map_err(|reason| self.bad(field, reason))
    }

    /// An error about one of this object's fields.
    pub(crate) fn bad(&self, field: &str, reason: impl Into<String>) -> FieldError {
        FieldError::Value { path: self.path(field), reason: reason.into() }
    }

    /// Refuses what says something that Docker's API knows and no conversion took. What that does not know either is not
    /// looked at, as in Docker: clients send words of their own with their options, or what they have read elsewhere.
    pub(crate) fn finish(self) -> Result<(), FieldError> {
        self.refuse_left(|key| NOT_HERE.iter().any(|name| name.eq_ignore_ascii_case(key)))
    }

    /// Refuses whatever says something and was not taken: for requests that are ours alone.
    pub(crate) fn finish_strictly(self) -> Result<(), FieldError> {
        self.refuse_left(|_| true)
    }

    fn refuse_left(&self, counts: impl Fn(&str) -> bool) -> Result<(), FieldError> {
        let is_taken = |key: &str| self.taken.iter().any(|taken| taken.eq_ignore_ascii_case(key));
        let mut left = self.map.into_iter().flatten().filter(|(key, value)| !is_taken(key) && !is_empty(value));
        match left.find(|(key, _)| counts(key)) {
            Some((key, value)) => Err(FieldError::Unsupported { path: self.path(&innermost(key, value)) }),
            None => Ok(()),
        }
    }
}

/// Go's zero values, nested ones too: `{"Limits":{"Pids":0}}` asks for nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
    }
}

/// Follows objects down to the first value that says something, so that the path is exact.
fn innermost(key: &str, value: &Value) -> String {
    let Value::Object(map) = value else { return key.to_owned() };
    match map.iter().find(|(_, inner)| !is_empty(inner)) {
        Some((inner_key, inner)) => format!("{key}.{}", innermost(inner_key, inner)),
        None => key.to_owned(),
    }
}

/// A text without a zero byte: the kernel ends a text at one, so nobody could honour the rest.
fn plain(path: String, text: &str) -> Result<String, FieldError> {
    match text.contains('\0') {
        false => Ok(text.to_owned()),
        true => Err(FieldError::Value { path, reason: "contains a zero byte".to_owned() }),
    }
}

fn wrong_type(path: String, wanted: &'static str, found: &Value) -> FieldError {
    /// Enough to recognise the value; requests may be megabytes long.
    const SHOWN: usize = 60;
    let mut text: String = found.to_string();
    if text.chars().count() > SHOWN {
        text = text.chars().take(SHOWN).chain(['…']).collect();
    }
    FieldError::Type { path, wanted, found: text }
}

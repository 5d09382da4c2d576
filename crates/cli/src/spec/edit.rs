//! Changing a JSON document in place, by paths such as `TaskTemplate.ContainerSpec.Env`.

use serde_json::{Map, Value};

/// The value at `path`, made of empty objects where there was none.
fn at<'a>(root: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(root, |value, key| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("made an object above").entry(key).or_insert(Value::Null)
    })
}

pub(crate) fn set(root: &mut Value, path: &str, value: impl Into<Value>) {
    *at(root, path) = value.into();
}

/// Sets what was given and leaves the rest alone.
pub(crate) fn set_some<T: Into<Value>>(root: &mut Value, path: &str, value: Option<T>) {
    if let Some(value) = value {
        set(root, path, value);
    }
}

pub(crate) fn get<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(root, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Removes those whose key is in `remove`, then adds; one with the same key is replaced.
pub(crate) fn change_list(root: &mut Value, path: &str, key: fn(&Value) -> String, remove: &[String], add: Vec<Value>) {
    if remove.is_empty() && add.is_empty() {
        return;
    }
    let present = get(root, path).and_then(Value::as_array);
    let is_absent = present.is_none();
    let mut items = present.cloned().unwrap_or_default();
    items.retain(|item| !remove.contains(&key(item)) && !add.iter().any(|new| key(new) == key(item)));
    items.extend(add);
    if !(is_absent && items.is_empty()) {
        set(root, path, items);
    }
}

pub(crate) fn change_map(root: &mut Value, path: &str, remove: &[String], add: &[String]) {
    if remove.is_empty() && add.is_empty() {
        return;
    }
    let object = at(root, path);
    let mut map = object.as_object().cloned().unwrap_or_default();
    for name in remove {
        map.shift_remove(name);
    }
    for pair in add {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        map.insert(name.to_owned(), Value::from(value));
    }
    *object = Value::Object(map);
}

//! What a service wants of its hosts' devices: `devices`, `gpus`, and `deploy.resources.reservations.devices`.

use serde_json::Value;

use crate::{
    compose::check::{Check, Field, Fields},
    spec::devices::{Wanted, claim, wanted},
};

/// Entries of `Devices` and of `DeviceRequests`.
pub(super) fn read(service: &Fields<'_>, check: &mut Check) -> (Vec<Value>, Vec<Value>) {
    let (mut paths, mut claims) = (Vec::new(), Vec::new());
    if let Some(field) = service.get("devices") {
        for item in field.items(check) {
            match one(&item, check) {
                Some(Wanted::Path(device)) => paths.push(device),
                Some(Wanted::Claim(claim)) => claims.push(claim),
                None => {}
            }
        }
    }
    if let Some(field) = service.get("gpus") {
        claims.extend(gpus(field, check));
    }
    if let Some(field) = reserved(service) {
        claims.extend(requests(&field, None, check));
    }
    (paths, claims)
}

fn reserved<'n>(service: &Fields<'n>) -> Option<Field<'n>> {
    let deploy = service.get("deploy")?;
    let node = deploy.node.get("resources")?.get("reservations")?.get("devices")?;
    Some(Field::new(node, &format!("{}.resources.reservations.devices", deploy.name())))
}

/// `/dev/a:/dev/b:rwm`, `vendor.com/class=name`, or `source`, `target` and `permissions`.
fn one(item: &Field<'_>, check: &mut Check) -> Option<Wanted> {
    let text = if item.is_map() {
        let fields = item.fields(check, &["source", "target", "permissions"]);
        let mut part = |key: &str| check.text(fields.get(key)).filter(|text| !text.is_empty());
        let (source, target, permissions) = (part("source"), part("target"), part("permissions"));
        let source = source.unwrap_or_default();
        match (target, permissions) {
            (None, None) => source,
            (target, permissions) => {
                let target = target.unwrap_or_else(|| source.clone());
                format!("{source}:{target}:{}", permissions.unwrap_or_else(|| "rwm".to_owned()))
            }
        }
    } else {
        check.text(Some(item)).unwrap_or_default()
    };
    match wanted(&text) {
        Ok(Wanted::Path(_)) if !text.starts_with('/') => {
            item.wrong(check, format!("{text:?} is neither the absolute path of a device nor VENDOR/CLASS=NAME"));
            None
        }
        Ok(wanted) => Some(wanted),
        Err(why) => {
            item.wrong(check, why.to_string());
            None
        }
    }
}

/// `all`, or a list of requests.
fn gpus(field: &Field<'_>, check: &mut Check) -> Vec<Value> {
    if !field.is_list() {
        return match check.text(Some(field)).as_deref() {
            Some("all") => vec![claim("", -1, Vec::new(), Some(vec!["gpu".to_owned()]))],
            _ => {
                field.wrong(check, "say all, or a list of what is wanted");
                Vec::new()
            }
        };
    }
    requests(field, Some("gpu"), check)
}

/// Each with `driver`, `count` or `device_ids`, and `capabilities`; without either of those all of the kind are meant, as
/// the Compose specification says.
fn requests(field: &Field<'_>, implied: Option<&str>, check: &mut Check) -> Vec<Value> {
    let items = field.items(check);
    items.iter().filter_map(|item| request(item, implied, check)).collect()
}

fn request(item: &Field<'_>, implied: Option<&str>, check: &mut Check) -> Option<Value> {
    let fields = item.fields(check, &["driver", "count", "device_ids", "capabilities", "options"]);
    if let Some(options) = fields.get("options").filter(|options| !options.node.is_null()) {
        options.wrong(check, "no driver of devices here has options");
    }
    let mut capabilities: Vec<String> = fields.get("capabilities").map(|f| f.texts(check)).unwrap_or_default();
    if let Some(implied) = implied.filter(|implied| !capabilities.iter().any(|one| one == implied)) {
        capabilities.insert(0, implied.to_owned());
    }
    let ids: Vec<String> = fields.get("device_ids").map(|f| f.texts(check)).unwrap_or_default();
    let count = fields.get("count").and_then(|field| match check.text(Some(field)).as_deref() {
        Some("all") => Some(-1),
        _ => field.natural(check).and_then(|count| i64::try_from(count).ok()),
    });
    if let (Some(field), false) = (fields.get("count"), ids.is_empty()) {
        field.wrong(check, "count and device_ids exclude each other");
        return None;
    }
    let driver = check.text(fields.get("driver")).unwrap_or_default();
    if capabilities.is_empty() && driver != "cdi" {
        item.wrong(check, "capabilities are missing: say what the devices must be able to do, such as [gpu]");
        return None;
    }
    let count = count.unwrap_or(if ids.is_empty() { -1 } else { 0 });
    Some(claim(&driver, count, ids, (!capabilities.is_empty()).then_some(capabilities)))
}

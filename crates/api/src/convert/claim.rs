//! Devices that hosts find by name or by kind: Docker's `DeviceRequests`, of single containers and, beyond Docker, of services.

use serde_json::{Value, json};
use types::DeviceClaim;

use super::reader::{FieldError, Object};

pub(crate) fn read(from: &mut Object<'_>) -> Result<Vec<DeviceClaim>, FieldError> {
    from.objects("DeviceRequests")?.into_iter().map(read_one).collect()
}

fn read_one(mut from: Object<'_>) -> Result<DeviceClaim, FieldError> {
    let claim = DeviceClaim {
        driver: from.string("Driver")?,
        count: from.integer("Count")?.unwrap_or(0),
        ids: from.strings("DeviceIDs")?,
        capabilities: from.string_lists("Capabilities")?,
    };
    if claim.count < -1 {
        return Err(from.bad("Count", format!("{} is neither a number of devices nor -1 for all", claim.count)));
    }
    if let Some((key, _)) = from.labels("Options")?.first_key_value() {
        return Err(from.bad("Options", format!("{key:?} is no option that a driver here has")));
    }
    from.finish()?;
    Ok(claim)
}

pub(crate) fn write(claim: &DeviceClaim) -> Value {
    json!({
        "Driver": claim.driver,
        "Count": claim.count,
        "DeviceIDs": if claim.ids.is_empty() { Value::Null } else { json!(claim.ids) },
        "Capabilities": if claim.capabilities.is_empty() { Value::Null } else { json!(claim.capabilities) },
        "Options": {},
    })
}

//! `inspect`: objects as JSON, or through a template.

use serde_json::Value;

use crate::output::{template::Template, terminal::print};

/// An indented array, or one line per object for a template. `missing` were asked for in vain: the
/// others are shown first, then this fails.
pub(crate) fn show(objects: &[Value], missing: &[anyhow::Error], format: Option<&str>) -> anyhow::Result<()> {
    match format.filter(|format| !format.is_empty()) {
        None => print(&format!("{}\n", indented(objects)))?,
        Some("json") => print(&format!("{}\n", Value::from(objects)))?,
        Some(format) => {
            let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))?;
            for object in objects {
                print(&format!("{}\n", template.run(object)?))?;
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> = missing.iter().map(|error| format!("{error:#}")).collect();
    Err(anyhow::anyhow!(reasons.join("\n")))
}

/// Four blanks per level, like docker.
fn indented(objects: &[Value]) -> String {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    objects.serialize(&mut serializer).expect("JSON values are JSON, and memory takes them");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

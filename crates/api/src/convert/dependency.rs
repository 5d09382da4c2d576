//! Docker's secrets and configs to `types` and back, and how a container refers to them (parity, S-63).

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use types::{
    DEFAULT_FILE_MODE, Dependency, DependencyId, DependencyKind, DependencyName, DependencyRef, DependencySpec, Labels,
    Payload, TargetFile,
};

use super::{
    reader::{FieldError, Object},
    time::rfc3339,
    writer::Fields,
};

/// The one templating driver there is.
const GOLANG: &str = "golang";

/// The body of a create request.
pub(crate) fn read(kind: DependencyKind, body: &Value) -> Result<DependencySpec, FieldError> {
    let mut from = Object::root(body)?;
    let name = from.parsed("Name", |text| text.parse::<DependencyName>().map_err(|why| why.to_string()))?;
    let name = name.ok_or(FieldError::Missing { path: "Name".to_owned(), hint: "give a name" })?;
    let data = read_data(&mut from)?.unwrap_or_default();
    let (labels, is_template) = read_rest(kind, from)?;
    Ok(DependencySpec { kind, name, labels, data, is_template })
}

/// What an update asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) labels: Labels,
    /// None: as it is. A secret's is in no answer, so that clients leave it out when they send one back.
    pub(crate) data: Option<Payload>,
}

/// The body of an update: labels, and the data of a new version.
pub(crate) fn read_update(old: &DependencySpec, body: &Value) -> Result<Update, FieldError> {
    let mut from = Object::root(body)?;
    let name = from.string("Name")?;
    if !name.is_empty() && name != old.name.as_str() {
        return Err(from.bad("Name", format!("only Labels and Data can be updated: the name is {}", old.name)));
    }
    let data = read_data(&mut from)?;
    let is_same = from.take("Templating").is_none() || read_templating(&mut from)? == old.is_template;
    if !is_same {
        return Err(from.bad("Templating", "only Labels and Data can be updated"));
    }
    let (labels, _) = read_rest(old.kind, from)?;
    Ok(Update { labels, data })
}

fn read_data(from: &mut Object<'_>) -> Result<Option<Payload>, FieldError> {
    // the text is not shown: it may be the secret itself
    let bad = || Err("is not base64".to_owned());
    from.parsed("Data", |text| BASE64.decode(text).map(Payload::new).or_else(|_| bad()))
}

fn read_rest(kind: DependencyKind, mut from: Object<'_>) -> Result<(Labels, bool), FieldError> {
    let labels = from.labels("Labels")?;
    let is_template = read_templating(&mut from)?;
    if kind == DependencyKind::Secret {
        let mut driver = from.object("Driver")?;
        let name = driver.string("Name")?;
        if !name.is_empty() {
            let why = format!("secret driver {name:?} would be a plugin, and plugins are not supported: give the data");
            return Err(driver.bad("Name", why));
        }
        driver.finish()?;
    }
    from.finish()?;
    Ok((labels, is_template))
}

fn read_templating(from: &mut Object<'_>) -> Result<bool, FieldError> {
    let mut templating = from.object("Templating")?;
    let name = templating.string("Name")?;
    // a template has no options here: whatever is asked for with one is not silently left out
    templating.finish()?;
    match name.as_str() {
        "" => Ok(false),
        GOLANG => Ok(true),
        other => Err(from.bad("Templating.Name", format!("template driver {other:?} is not known: use {GOLANG}"))),
    }
}

pub(crate) fn write(dependency: &Dependency) -> Value {
    let spec = &dependency.spec;
    let data = (spec.kind == DependencyKind::Config).then(|| BASE64.encode(spec.data.bytes()));
    let written = Fields::new()
        .set("Name", &spec.name)
        .set("Labels", &spec.labels)
        .some("Data", data)
        .some("Templating", spec.is_template.then(|| json!({ "Name": GOLANG })));
    Fields::new()
        .set("ID", dependency.id)
        .set("Version", json!({ "Index": dependency.meta.version }))
        .set("CreatedAt", rfc3339(dependency.meta.created_at))
        .set("UpdatedAt", rfc3339(dependency.meta.updated_at))
        .set("Spec", written.done())
        .done()
}

struct Words {
    list: &'static str,
    id: &'static str,
    name: &'static str,
}

fn words(kind: DependencyKind) -> Words {
    match kind {
        DependencyKind::Secret => Words { list: "Secrets", id: "SecretID", name: "SecretName" },
        DependencyKind::Config => Words { list: "Configs", id: "ConfigID", name: "ConfigName" },
    }
}

/// Of a container, of both kinds.
pub(crate) fn read_references(from: &mut Object<'_>) -> Result<Vec<DependencyRef>, FieldError> {
    let mut all = Vec::new();
    for kind in [DependencyKind::Secret, DependencyKind::Config] {
        for item in from.objects(words(kind).list)? {
            all.push(read_reference(kind, item)?);
        }
    }
    Ok(all)
}

fn read_reference(kind: DependencyKind, mut from: Object<'_>) -> Result<DependencyRef, FieldError> {
    let words = words(kind);
    let id = from.parsed(words.id, |text| text.parse::<DependencyId>().map_err(|why| why.to_string()))?;
    let name = from.parsed(words.name, |text| text.parse::<DependencyName>().map_err(|why| why.to_string()))?;
    if id.is_none() && name.is_none() {
        let hint = "give the id or the name of what the container shall have";
        return Err(FieldError::Missing { path: from.path(words.id), hint });
    }
    if from.has("Runtime") {
        return Err(from.bad("Runtime", "a config is used by the runtime on Windows only: give a File"));
    }
    if !from.has("File") {
        let why =
            format!("malformed {kind} reference, no target provided: give the file that it shall be in the container");
        return Err(from.bad("File", why));
    }
    let mut file = from.object("File")?;
    let default = || name.as_ref().map(ToString::to_string).unwrap_or_default();
    let target = Some(file.string("Name")?).filter(|target| !target.is_empty()).unwrap_or_else(default);
    if target.is_empty() {
        return Err(FieldError::Missing { path: file.path("Name"), hint: "give the file's name in the container" });
    }
    let mode = match file.natural("Mode")? {
        None => DEFAULT_FILE_MODE,
        Some(mode) => u32::try_from(mode).map_err(|_| file.bad("Mode", "is no file mode"))?,
    };
    let file_spec = TargetFile { name: target, uid: number(&mut file, "UID")?, gid: number(&mut file, "GID")?, mode };
    file.finish()?;
    from.finish()?;
    Ok(DependencyRef { kind, id, name, file: file_spec })
}

fn number(from: &mut Object<'_>, field: &'static str) -> Result<u32, FieldError> {
    let parse = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is not a number"));
    Ok(from.parsed(field, parse)?.unwrap_or(0))
}

/// The references of one kind, as Docker has them.
pub(crate) fn write_references(kind: DependencyKind, all: &[DependencyRef]) -> Vec<Value> {
    let words = words(kind);
    let one = |wanted: &DependencyRef| {
        let file = &wanted.file;
        let file = Fields::new()
            .set("Name", &file.name)
            .set("UID", file.uid.to_string())
            .set("GID", file.gid.to_string())
            .set("Mode", file.mode);
        Fields::new().set("File", file.done()).some(words.id, wanted.id).some(words.name, wanted.name.as_ref()).done()
    };
    all.iter().filter(|wanted| wanted.kind == kind).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use DependencyKind::{Config, Secret};

    fn refused(kind: DependencyKind, body: &Value, part: &str) {
        let text = read(kind, body).expect_err("refused").to_string();
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("c2VjcmV0"), "the data is not shown: {text}");
    }

    #[test]
    fn x01_x05_bodies_are_read_and_what_is_not_there_is_refused() {
        let body =
            json!({ "Name": "a.b", "Labels": { "x": "1" }, "Data": "c2VjcmV0", "Templating": { "Name": "golang" } });
        let spec = read(Secret, &body).expect("read");
        assert_eq!((spec.name.as_str(), spec.data.bytes(), spec.is_template), ("a.b", &b"secret"[..], true));
        refused(Secret, &json!({ "Data": "c2VjcmV0" }), "Name is missing");
        refused(Secret, &json!({ "Name": "-", "Data": "c2VjcmV0" }), "invalid name");
        refused(Secret, &json!({ "Name": "a", "Data": "c2VjcmV0!" }), "Data: is not base64");
        refused(Secret, &json!({ "Name": "a", "Driver": { "Name": "vault" } }), "plugins are not supported");
        refused(Config, &json!({ "Name": "a", "Templating": { "Name": "jinja" } }), "use golang");
    }

    #[test]
    fn x01_updates() {
        let old = read(Config, &json!({ "Name": "a", "Data": "c2VjcmV0" })).expect("read");
        let update = read_update(&old, &json!({ "Name": "a", "Labels": { "x": "1" } })).expect("labels");
        assert_eq!((update.labels["x"].as_str(), update.data), ("1", None));
        assert!(read_update(&old, &json!({ "Data": "YQ==" })).expect("data").data.is_some());
        assert!(read_update(&old, &json!({ "Name": "b" })).is_err());
        assert!(read_update(&old, &json!({ "Templating": { "Name": "golang" } })).is_err());
    }

    #[test]
    fn s63_references_round_trip() {
        let secret = json!({ "File": { "Name": "pw", "UID": "7", "GID": "8", "Mode": 0o440 },
            "SecretID": "0000000000000000000000005", "SecretName": "db.pw" });
        let config = json!({ "File": { "Name": "/etc/app", "UID": "0", "GID": "0", "Mode": 0o444 },
            "ConfigID": "0000000000000000000000006", "ConfigName": "app" });
        let body = json!({ "Secrets": [secret], "Configs": [config] });
        let mut from = Object::root(&body).expect("an object");
        let all = read_references(&mut from).expect("read");
        from.finish().expect("all was read");
        assert_eq!(write_references(Secret, &all), [secret]);
        assert_eq!(write_references(Config, &all), [config]);
        for (wanted, part) in [
            (json!({}), "SecretID is missing"),
            (json!({ "SecretID": "x" }), "an id has 25 characters"),
            (json!({ "SecretName": "a", "File": { "UID": "root" } }), "UID: \"root\" is not a number"),
            (json!({ "SecretName": "a", "Runtime": {} }), "Windows"),
            (json!({ "SecretName": "a" }), "Secrets[0].File: malformed secret reference, no target provided"),
        ] {
            let body = json!({ "Secrets": [wanted] });
            let error = read_references(&mut Object::root(&body).expect("an object")).expect_err("refused");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

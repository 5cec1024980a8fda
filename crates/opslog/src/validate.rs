//! Whether a decoded operation, manifest, snapshot or archive segment has the shape that the reference demands.
//!
//! For applications that move such values themselves. opslog's own decoders (in `format`) are stricter where they must be.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Checks an operation, as decoded from a line of an op log.
///
/// # Errors
/// `InvalidInput`, naming the field, if it is not an operation.
///
/// ```
/// use serde_json::json;
/// opslog::validate_op(&json!({"ts": "2026-01-01T00:00:00.000Z", "op": "set", "id": "a", "prev": null, "data": {}}))?;
/// let error = opslog::validate_op(&json!({"ts": "2026-01-01T00:00:00.000Z", "op": "put"})).unwrap_err();
/// assert!(error.to_string().contains("op must be"));
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn validate_op(value: &Value) -> Result<()> {
    let checked = Checked::new("operation", value)?;
    checked.text("ts")?;
    let op = checked.get("op").and_then(Value::as_str);
    if !matches!(op, Some("set" | "delete")) {
        return checked.refuse("op must be \"set\" or \"delete\"");
    }
    checked.text("id")?;
    let Some(prev) = checked.get("prev") else {
        return checked.refuse("prev is missing");
    };
    if !prev.is_object() && !prev.is_null() {
        return checked.refuse("prev must be an object or null");
    }
    if op == Some("set") {
        if checked.get("data").is_none_or(Value::is_null) {
            return checked.refuse("data of a set must not be null");
        }
    } else if checked.get("data").is_some() {
        return checked.refuse("data must not be in a delete");
    } else if prev.is_null() {
        return checked.refuse("prev of a delete must not be null");
    }
    match checked.get("encoding") {
        None => {}
        Some(encoding) if matches!(encoding.as_str(), Some("full" | "delta")) => {}
        Some(_) => return checked.refuse("encoding must be \"full\" or \"delta\""),
    }
    if checked.get("agent").is_some() {
        checked.text("agent")?;
    }
    if checked.get("clock").is_some() {
        checked.natural("clock")?;
    }
    Ok(())
}

/// Checks a manifest, as decoded from `manifest.json`.
///
/// # Errors
/// `InvalidInput`, naming the field, if it is not a manifest.
///
/// ```
/// use serde_json::json;
/// let stats = json!({"activeRecords": 0, "archivedRecords": 0, "opsCount": 0, "created": "t", "lastCheckpoint": "t"});
/// let mut manifest = json!({"version": 1, "currentSnapshot": "s", "activeOps": "o", "archiveSegments": [], "stats": stats});
/// opslog::validate_manifest(&manifest)?;
/// manifest["stats"]["opsCount"] = json!(-1);
/// assert!(opslog::validate_manifest(&manifest).unwrap_err().to_string().contains("stats.opsCount"));
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn validate_manifest(value: &Value) -> Result<()> {
    let checked = Checked::new("manifest", value)?;
    checked.version()?;
    checked.text("currentSnapshot")?;
    checked.text("activeOps")?;
    match checked.get("activeAgentOps") {
        None => {}
        Some(Value::Object(paths)) if paths.values().all(is_text) => {}
        Some(_) => {
            return checked.refuse("activeAgentOps must be an object of non-empty strings");
        }
    }
    match checked.get("archiveSegments") {
        Some(Value::Array(paths)) if paths.iter().all(is_text) => {}
        _ => return checked.refuse("archiveSegments must be an array of non-empty strings"),
    }
    let Some(stats) = checked.get("stats").and_then(Value::as_object) else {
        return checked.refuse("stats must be an object");
    };
    let stats = Checked {
        what: "manifest",
        prefix: "stats.",
        object: stats,
    };
    stats.natural("activeRecords")?;
    stats.natural("archivedRecords")?;
    stats.natural("opsCount")?;
    stats.text("created")?;
    stats.text("lastCheckpoint")
}

/// Checks a legacy snapshot, as decoded from its file.
///
/// # Errors
/// `InvalidInput`, naming the field, if it is not a snapshot.
///
/// ```
/// use serde_json::json;
/// opslog::validate_snapshot(&json!({"version": 1, "timestamp": "t", "records": {}}))?;
/// assert!(opslog::validate_snapshot(&json!({"version": 0, "timestamp": "t", "records": {}})).is_err());
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn validate_snapshot(value: &Value) -> Result<()> {
    let checked = Checked::new("snapshot", value)?;
    checked.version()?;
    checked.text("timestamp")?;
    checked.records()
}

/// Checks an archive segment, as decoded from its file.
///
/// # Errors
/// `InvalidInput`, naming the field, if it is not an archive segment.
///
/// ```
/// use serde_json::json;
/// opslog::validate_archive_segment(&json!({"version": 1, "period": "2026-Q1", "timestamp": "t", "records": {}}))?;
/// assert!(opslog::validate_archive_segment(&json!({"version": 1})).is_err());
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn validate_archive_segment(value: &Value) -> Result<()> {
    let checked = Checked::new("archive segment", value)?;
    checked.version()?;
    checked.text("period")?;
    checked.text("timestamp")?;
    checked.records()
}

/// An object being checked, and how to name it and its fields.
struct Checked<'a> {
    what: &'static str,
    prefix: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> Checked<'a> {
    fn new(what: &'static str, value: &'a Value) -> Result<Self> {
        let object = value
            .as_object()
            .ok_or_else(|| Error::invalid(format!("invalid {what}: it must be an object")))?;
        Ok(Self {
            what,
            prefix: "",
            object,
        })
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field)
    }

    fn refuse(&self, reason: &str) -> Result<()> {
        let Self { what, prefix, .. } = self;
        Err(Error::invalid(format!("invalid {what}: {prefix}{reason}")))
    }

    fn text(&self, field: &str) -> Result<()> {
        if self.get(field).is_some_and(is_text) {
            return Ok(());
        }
        self.refuse(&format!("{field} must be a non-empty string"))
    }

    fn natural(&self, field: &str) -> Result<()> {
        if self
            .get(field)
            .and_then(integer)
            .is_some_and(|number| number >= 0.0)
        {
            return Ok(());
        }
        self.refuse(&format!("{field} must be a non-negative integer"))
    }

    fn version(&self) -> Result<()> {
        if self
            .get("version")
            .and_then(integer)
            .is_some_and(|number| number > 0.0)
        {
            return Ok(());
        }
        self.refuse("version must be a positive integer")
    }

    fn records(&self) -> Result<()> {
        if self.get("records").is_some_and(Value::is_object) {
            return Ok(());
        }
        self.refuse("records must be an object")
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

/// A number that JavaScript counts as an integer, so `1.0` and `1e300` too.
fn integer(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Validator = fn(&Value) -> Result<()>;

    /// Values of every type, and which of them a field may have.
    fn check(
        validate: Validator,
        base: &Value,
        field: &str,
        optional: bool,
        fits: fn(&Value) -> bool,
    ) {
        assert!(validate(base).is_ok(), "{base}");
        let mut changed = base.clone();
        let (parent, key) = field.rsplit_once('/').unwrap_or(("", field));
        let object = changed
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object");
        object.remove(key);
        assert_eq!(validate(&changed).is_ok(), optional, "without {field}");
        for value in [
            json!(null),
            json!(""),
            json!("x"),
            json!(0),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(1.0),
            json!(1e300),
            json!(true),
            json!([]),
            json!([1]),
            json!(["x"]),
            json!([""]),
            json!({}),
            json!({"a": 1}),
            json!({"a": "x"}),
        ] {
            let object = changed
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
                .expect("an object");
            object.insert(key.to_owned(), value.clone());
            let result = validate(&changed);
            assert_eq!(result.is_ok(), fits(&value), "{field} = {value}");
            if let Err(error) = result {
                assert_eq!(error.kind(), crate::error::ErrorKind::InvalidInput);
                assert!(error.to_string().contains(key), "{error}");
            }
        }
    }

    fn text(value: &Value) -> bool {
        value.as_str() == Some("x")
    }

    fn natural(value: &Value) -> bool {
        [json!(0), json!(1), json!(1.0), json!(1e300)].contains(value)
    }

    fn positive(value: &Value) -> bool {
        natural(value) && *value != json!(0)
    }

    #[test]
    fn operations_are_judged_as_by_the_reference() {
        let set = json!({"ts": "t", "op": "set", "id": "a", "data": {}, "prev": null});
        check(validate_op, &set, "ts", false, text);
        check(validate_op, &set, "op", false, |_| false);
        check(validate_op, &set, "id", false, text);
        check(validate_op, &set, "data", false, |value| !value.is_null());
        check(validate_op, &set, "prev", false, |value| {
            value.is_object() || value.is_null()
        });
        check(validate_op, &set, "agent", true, text);
        check(validate_op, &set, "clock", true, natural);
        check(validate_op, &set, "encoding", true, |_| false);
        let delete = json!({"ts": "t", "op": "delete", "id": "a", "prev": {}, "encoding": "delta"});
        check(validate_op, &delete, "prev", false, Value::is_object);
        check(validate_op, &delete, "data", true, |_| false);
    }

    #[test]
    fn manifests_are_judged_as_by_the_reference() {
        let stats = json!({"activeRecords": 0, "archivedRecords": 0, "opsCount": 0, "created": "t", "lastCheckpoint": "t"});
        let manifest = json!({"version": 1, "currentSnapshot": "s", "activeOps": "o", "archiveSegments": [], "stats": stats});
        check(validate_manifest, &manifest, "version", false, positive);
        check(validate_manifest, &manifest, "currentSnapshot", false, text);
        check(validate_manifest, &manifest, "activeOps", false, text);
        check(
            validate_manifest,
            &manifest,
            "activeAgentOps",
            true,
            |value| [json!({}), json!({"a": "x"})].contains(value),
        );
        check(
            validate_manifest,
            &manifest,
            "archiveSegments",
            false,
            |value| [json!([]), json!(["x"])].contains(value),
        );
        check(validate_manifest, &manifest, "stats", false, |_| false);
        for field in ["activeRecords", "archivedRecords", "opsCount"] {
            check(
                validate_manifest,
                &manifest,
                &format!("/stats/{field}"),
                false,
                natural,
            );
        }
        for field in ["created", "lastCheckpoint"] {
            check(
                validate_manifest,
                &manifest,
                &format!("/stats/{field}"),
                false,
                text,
            );
        }
    }

    #[test]
    fn snapshots_and_segments_are_judged_as_by_the_reference() {
        let segment =
            json!({"version": 1, "period": "p", "timestamp": "t", "records": {}, "more": 1});
        for validate in [validate_snapshot as Validator, validate_archive_segment] {
            check(validate, &segment, "version", false, positive);
            check(validate, &segment, "timestamp", false, text);
            check(validate, &segment, "records", false, Value::is_object);
            for other in [json!(null), json!("x"), json!([]), json!(3)] {
                assert!(validate(&other).is_err());
            }
        }
        check(validate_archive_segment, &segment, "period", false, text);
    }
}

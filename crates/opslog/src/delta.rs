//! Reverse patches: what turns a document back into the one before it, over top-level keys.
//!
//! The public functions work on decoded objects, as the reference's do. The store itself works on the text: a patch is
//! written only where applying it gives back the old document with its keys in their old order, so history and undo are exact.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::format::json::{self, FEW_KEYS, Member};

/// A patch of an object's top-level keys: first `unset` removes keys, then `set` sets them.
///
/// ```
/// let patch: opslog::DeltaPatch = serde_json::from_str(r#"{"$set":{"a":1},"$unset":["b"]}"#)?;
/// assert_eq!(patch.unset, ["b"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeltaPatch {
    /// The keys to set, with their values.
    #[serde(rename = "$set", default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// The keys to remove.
    #[serde(rename = "$unset", default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}

/// The patch that turns `new` back into `old`. `None` where there is no `old`, or nothing to change.
///
/// Values are compared as JSON text, so a nested object whose keys are in another order counts as changed.
///
/// ```
/// # use serde_json::{Map, json};
/// let old = Map::from_iter([("a".to_owned(), json!(1))]);
/// let new = Map::from_iter([("a".to_owned(), json!(2)), ("b".to_owned(), json!(3))]);
/// let patch = opslog::create_delta(Some(&old), &new).unwrap();
/// assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"$set":{"a":1},"$unset":["b"]}"#);
/// assert_eq!(opslog::apply_delta(&new, &patch), old);
/// ```
#[must_use]
pub fn create_delta(
    old: Option<&Map<String, Value>>,
    new: &Map<String, Value>,
) -> Option<DeltaPatch> {
    let old = old?;
    let set: Map<String, Value> = old
        .iter()
        .filter(|(key, value)| new.get(*key).is_none_or(|now| !have_same_text(now, value)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let unset: Vec<String> = new
        .keys()
        .filter(|key| !old.contains_key(*key))
        .cloned()
        .collect();
    (!set.is_empty() || !unset.is_empty()).then_some(DeltaPatch { set, unset })
}

/// `document` after `patch`. A key that is replaced keeps its place; a new one goes last.
///
/// ```
/// # use serde_json::{Map, json};
/// let document = Map::from_iter([("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))]);
/// let patch = opslog::DeltaPatch { unset: vec!["b".to_owned()], ..Default::default() };
/// assert_eq!(opslog::apply_delta(&document, &patch).len(), 1);
/// ```
#[must_use]
pub fn apply_delta(document: &Map<String, Value>, patch: &DeltaPatch) -> Map<String, Value> {
    let unset: HashSet<&String> = patch.unset.iter().collect();
    let mut result: Map<String, Value> = document
        .iter()
        .filter(|(key, _)| !unset.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in &patch.set {
        result.insert(key.clone(), value.clone());
    }
    result
}

/// Whether the JSON text of `patch` is shorter than that of the whole document. `false` where either is missing.
///
/// ```
/// # use serde_json::{Map, json};
/// let full = Map::from_iter([("text".to_owned(), json!("a long text, which did not change"))]);
/// let patch = opslog::DeltaPatch { unset: vec!["b".to_owned()], ..Default::default() };
/// assert!(opslog::is_delta_smaller(Some(&patch), Some(&full)));
/// assert!(!opslog::is_delta_smaller(Some(&patch), None));
/// ```
#[must_use]
pub fn is_delta_smaller(patch: Option<&DeltaPatch>, full: Option<&Map<String, Value>>) -> bool {
    match (patch, full) {
        (Some(patch), Some(full)) => match (serde_json::to_vec(patch), serde_json::to_vec(full)) {
            (Ok(patch), Ok(full)) => patch.len() < full.len(),
            _ => false,
        },
        _ => false,
    }
}

/// Appends the patch that turns the text `new` back into `old`, and says whether it did. It does not where the patch is not
/// strictly shorter than `old`, would bring the keys back in another order, or either text is not an object with unique keys.
pub(crate) fn encode_reverse(old: &str, new: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (Some(old_members), Some(new_members)) = (json::top_level(old), json::top_level(new))
    else {
        return false;
    };
    if write_reverse(&old_members, &new_members, out) && out.len() - start < old.len() {
        return true;
    }
    out.truncate(start);
    false
}

/// The text `data` after `patch`. `None` if either is malformed or has a key twice.
pub(crate) fn apply_reverse(data: &str, patch: &str) -> Option<String> {
    let mut set = Vec::new();
    let mut unset = HashSet::new();
    for part in json::top_level(patch)? {
        match &*part.key {
            "$set" if part.value != "null" => set = json::top_level(part.value)?,
            "$unset" if part.value != "null" => unset = read_strings(part.value)?,
            _ => {}
        }
    }
    let members: Vec<Member<'_>> = json::top_level(data)?
        .into_iter()
        .filter(|member| !unset.contains(&member.key))
        .collect();
    let values = Lookup::new(&set);
    let places = Lookup::new(&members);
    let kept = members.iter().enumerate().map(|(place, member)| {
        let value = values
            .find(&member.key, place)
            .map_or(member.value, |set| set.value);
        (member.raw_key, value)
    });
    let added = set
        .iter()
        .filter(|member| places.find(&member.key, usize::MAX).is_none())
        .map(|member| (member.raw_key, member.value));
    let mut out = String::with_capacity(data.len() + patch.len());
    out.push('{');
    for (raw_key, value) in kept.chain(added) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(raw_key);
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    Some(out)
}

fn have_same_text(one: &Value, other: &Value) -> bool {
    let (one, other) = (one.to_string(), other.to_string());
    one == other
}

/// Appends the patch, however long. `false` if applying it would not give back exactly the keys of `old` in their order.
fn write_reverse(old: &[Member<'_>], new: &[Member<'_>], out: &mut Vec<u8>) -> bool {
    let old_places = Lookup::new(old);
    let new_places = Lookup::new(new);
    let mut kept = old.iter();
    let mut removed_keys = Vec::new();
    for (place, member) in new.iter().enumerate() {
        if old_places.find(&member.key, place).is_none() {
            removed_keys.push(member.raw_key);
        } else if kept.next().map(|first| first.raw_key) != Some(member.raw_key) {
            // The keys that both have must come first in the old document, in the order of the new one.
            return false;
        }
    }
    out.push(b'{');
    let mut separator: &[u8] = b"\"$set\":{";
    for (place, member) in old.iter().enumerate() {
        let now = new_places.find(&member.key, place);
        if now.is_none_or(|now| now.value != member.value) {
            out.extend_from_slice(separator);
            separator = b",";
            out.extend_from_slice(member.raw_key.as_bytes());
            out.push(b':');
            out.extend_from_slice(member.value.as_bytes());
        }
    }
    let has_set = separator == b",";
    if has_set {
        out.push(b'}');
    }
    if !removed_keys.is_empty() {
        if has_set {
            out.push(b',');
        }
        out.extend_from_slice(b"\"$unset\":[");
        out.extend_from_slice(removed_keys.join(",").as_bytes());
        out.push(b']');
    }
    out.push(b'}');
    true
}

fn read_strings(array: &str) -> Option<HashSet<Cow<'_, str>>> {
    serde_json::from_str::<Vec<&RawValue>>(array)
        .ok()?
        .into_iter()
        .map(RawValue::get)
        .map(|raw| raw.starts_with('"').then(|| json::unescape_key(raw)))
        .collect()
}

/// Finds members by key; by scanning where they are few, as they mostly are.
struct Lookup<'m, 'a> {
    members: &'m [Member<'a>],
    table: Option<HashMap<&'m str, &'m Member<'a>>>,
}

impl<'m, 'a> Lookup<'m, 'a> {
    fn new(members: &'m [Member<'a>]) -> Self {
        let table = (members.len() > FEW_KEYS).then(|| {
            members
                .iter()
                .map(|member| (&*member.key, member))
                .collect()
        });
        Self { members, table }
    }

    /// The member with this key; `place` is where it probably is.
    fn find(&self, key: &str, place: usize) -> Option<&'m Member<'a>> {
        if let Some(member) = self.members.get(place).filter(|member| member.key == key) {
            return Some(member);
        }
        match &self.table {
            Some(table) => table.get(key).copied(),
            None => self.members.iter().find(|member| member.key == key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    fn reverse(old: &str, new: &str) -> Option<String> {
        let mut out = b"x".to_vec();
        let written = encode_reverse(old, new, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(written || text == "x");
        written.then(|| text[1..].to_owned())
    }

    #[test]
    fn patches_are_the_reference_s() {
        for (old, new, patch) in [
            ("{\"a\":1}", "{\"a\":1}", "null"),
            ("{\"b\":1,\"a\":1}", "{\"a\":1,\"b\":1}", "null"),
            ("{\"a\":1,\"b\":2}", "{\"a\":1}", "{\"$set\":{\"b\":2}}"),
            ("{\"a\":1}", "{\"a\":1,\"b\":2}", "{\"$unset\":[\"b\"]}"),
            (
                "{\"a\":1,\"b\":2,\"c\":3}",
                "{\"b\":9,\"c\":3,\"d\":1}",
                "{\"$set\":{\"a\":1,\"b\":2},\"$unset\":[\"d\"]}",
            ),
            (
                "{\"a\":{\"x\":1,\"y\":2}}",
                "{\"a\":{\"y\":2,\"x\":1}}",
                "{\"$set\":{\"a\":{\"x\":1,\"y\":2}}}",
            ),
            ("{\"a\":null}", "{}", "{\"$set\":{\"a\":null}}"),
            ("{}", "{\"a\":null}", "{\"$unset\":[\"a\"]}"),
            ("{\"a\":1}", "{\"a\":\"1\"}", "{\"$set\":{\"a\":1}}"),
            (
                "{\"__proto__\":1}",
                "{\"__proto__\":2}",
                "{\"$set\":{\"__proto__\":1}}",
            ),
        ] {
            let found = create_delta(Some(&object(old)), &object(new));
            assert_eq!(
                serde_json::to_string(&found).expect("JSON"),
                patch,
                "{old} {new}"
            );
        }
        assert_eq!(create_delta(None, &object("{}")), None);
    }

    #[test]
    fn an_unset_key_can_be_set_again_and_goes_last() {
        let patch: DeltaPatch =
            serde_json::from_str("{\"$unset\":[\"a\"],\"$set\":{\"a\":3,\"b\":4}}")
                .expect("a patch");
        let result = apply_delta(&object("{\"a\":1,\"b\":2}"), &patch);
        assert_eq!(
            serde_json::to_string(&result).expect("JSON"),
            "{\"b\":4,\"a\":3}"
        );
        assert_eq!(
            apply_reverse(
                "{\"a\":1,\"b\":2}",
                "{\"$unset\":[\"a\"],\"$set\":{\"a\":3,\"b\":4}}"
            )
            .as_deref(),
            Some("{\"b\":4,\"a\":3}")
        );
    }

    #[test]
    fn a_patch_is_written_only_where_shorter() {
        assert_eq!(reverse("{\"a\":1}", "{\"a\":2}"), None);
        let (old, new) = (
            "{\"long\":\"0123456789\",\"n\":1}",
            "{\"long\":\"0123456789\",\"n\":2,\"x\":[]}",
        );
        let patch = "{\"$set\":{\"n\":1},\"$unset\":[\"x\"]}";
        assert_eq!(
            reverse(old, new).as_deref(),
            None,
            "{} and {}",
            old.len(),
            patch.len()
        );
        let (old, new) = (
            old.replace('9', "99999999999"),
            new.replace('9', "99999999999"),
        );
        assert_eq!(reverse(&old, &new).as_deref(), Some(patch));
        assert_eq!(apply_reverse(&new, patch), Some(old.clone()));
        assert_eq!(reverse(&old, &old).as_deref(), Some("{}"));
        assert_eq!(reverse("{}", "{}"), None);
    }

    #[test]
    fn a_patch_that_would_reorder_keys_is_not_written() {
        let long = "\"long\":\"0123456789012345678901234567890123456789\"";
        assert_eq!(
            reverse(
                &format!("{{\"a\":1,{long}}}"),
                &format!("{{{long},\"a\":1}}")
            ),
            None
        );
        assert_eq!(
            reverse(&format!("{{\"a\":1,{long}}}"), &format!("{{{long}}}")),
            None
        );
        assert!(reverse(&format!("{{{long},\"a\":1}}"), &format!("{{{long}}}")).is_some());
    }

    #[test]
    fn repeated_keys_and_malformed_texts_are_declined() {
        let twice = "{\"a\":\"0123456789012345678901234567890123456789\",\"\\u0061\":1}";
        assert_eq!(reverse(twice, "{}"), None);
        assert_eq!(reverse("{}", twice), None);
        assert_eq!(apply_reverse(twice, "{}"), None);
        for patch in [
            "",
            "[]",
            "{\"$set\":1}",
            "{\"$unset\":[1]}",
            "{\"$unset\":\"a\"}",
            "{",
        ] {
            assert_eq!(apply_reverse("{\"a\":1}", patch), None, "{patch}");
        }
        assert_eq!(
            apply_reverse("{\"a\":1}", "{\"$set\":null,\"other\":1}").as_deref(),
            Some("{\"a\":1}")
        );
    }

    #[test]
    fn keys_with_lone_surrogates_are_told_apart() {
        let (old, new) = (
            "{\"\\ud800\":\"0123456789012345\",\"\\ud801\":1}",
            "{\"\\ud800\":\"0123456789012345\",\"\\ud801\":2}",
        );
        let patch = reverse(old, new).expect("shorter");
        assert_eq!(patch, "{\"$set\":{\"\\ud801\":1}}");
        assert_eq!(apply_reverse(new, &patch).as_deref(), Some(old));
    }

    proptest! {
        #[test]
        fn a_written_patch_gives_back_the_old_text(
            old in proptest::collection::btree_map("[a-h]{1,2}|[\\\\\"é]", 0..3, 0..40),
            new in proptest::collection::btree_map("[a-h]{1,2}|[\\\\\"é]", 0..3, 0..40),
            same in any::<bool>(),
        ) {
            let text = |map: &std::collections::BTreeMap<String, i32>| serde_json::to_string(map).expect("JSON");
            let changed = if same { old.keys().zip(new.values()).map(|(key, value)| (key.clone(), *value)).chain(old.clone()).collect() } else { new };
            let (old, new) = (text(&old), text(&changed));
            if let Some(patch) = reverse(&old, &new) {
                prop_assert!(patch.len() < old.len());
                prop_assert_eq!(apply_reverse(&new, &patch), Some(old.clone()));
                let decoded: DeltaPatch = serde_json::from_str(&patch).expect("a patch");
                prop_assert_eq!(serde_json::to_string(&apply_delta(&object(&new), &decoded)).expect("JSON"), old);
            }
        }

        #[test]
        fn nothing_makes_patching_panic(data in "[{}\\[\\]\":,\\\\a$sunet0-9]{0,60}", patch in "[{}\\[\\]\":,\\\\a$sunet0-9]{0,60}") {
            let _ = apply_reverse(&data, &patch);
            let _ = apply_reverse("{\"a\":1}", &patch);
            let _ = reverse(&data, &patch);
        }
    }
}

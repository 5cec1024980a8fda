//! A JSON object taken apart into its fields, whose values stay text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::output::json_string;

/// The fields of an object, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// Takes apart `text`, which must be a JSON object.
    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The value of `name`; of the last one, where there are several.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        let mut fields = self.0.iter().rev();
        fields
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    }

    /// The names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Puts `value` at `path`, whose parts name nested objects, which are made where they are missing.
    ///
    /// # Errors
    ///
    /// Which part of the path is something else than an object.
    pub(crate) fn put(&mut self, path: &[&str], value: Box<RawValue>) -> Result<(), String> {
        let Some((name, rest)) = path.split_first() else {
            return Ok(());
        };
        let value = if rest.is_empty() {
            value
        } else {
            let mut inner = match self.get(name) {
                None => Self::default(),
                Some(inner) => Self::parse(inner.get())
                    .map_err(|_| format!("the field '{name}' is not an object"))?,
            };
            inner.put(rest, value)?;
            inner.into_raw().map_err(|error| error.to_string())?
        };
        match self.0.iter_mut().rev().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => self.0.push(((*name).to_owned(), value)),
        }
        Ok(())
    }

    /// The object's text.
    pub(crate) fn to_text(&self) -> String {
        let fields = self.0.iter();
        let fields = fields.map(|(name, value)| format!("{}:{}", json_string(name), value.get()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    fn into_raw(self) -> serde_json::Result<Box<RawValue>> {
        RawValue::from_string(self.to_text())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_not_touched_keeps_its_text() {
        let mut fields = Fields::parse(r#"{"price":1.50,"size":{"x":1e2}}"#).unwrap();
        fields.put(&["size", "y"], raw("2")).unwrap();
        fields.put(&["new", "deep"], raw("true")).unwrap();
        let expected = r#"{"price":1.50,"size":{"x":1e2,"y":2},"new":{"deep":true}}"#;
        assert_eq!(fields.to_text(), expected);
    }

    #[test]
    fn a_path_through_a_number_is_refused() {
        let mut fields = Fields::parse(r#"{"a":1}"#).unwrap();
        assert!(fields.put(&["a", "b"], raw("2")).is_err());
    }
}

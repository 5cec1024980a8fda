use serde::Serialize;
use serde_json::value::RawValue;

use super::*;
use crate::ErrorKind;

fn encode<D: Serialize>(id: &str, document: &D) -> Result<String> {
    super::encode::<(), D>(id, document).map(|stored| stored.data().to_owned())
}

#[test]
fn a_number_that_is_not_finite_is_refused_wherever_it_hides() {
    #[derive(Serialize)]
    struct Outer {
        label: Option<String>,
        values: Vec<Option<f64>>,
    }
    let good = Outer {
        label: None,
        values: vec![Some(1.5), None],
    };
    assert!(encode("a", &good).is_ok());
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let document = Outer {
            label: None,
            values: vec![None, Some(bad)],
        };
        let error = encode("a", &document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("the number"), "{error}");
    }
}

#[test]
fn a_value_that_is_not_an_object_is_refused() {
    for text in ["1", "[1]", "\"x\"", "null", "true"] {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let error = encode("a", &value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    }
}

#[test]
fn raw_json_loses_its_line_breaks_and_keeps_its_numbers() {
    let raw = RawValue::from_string("{\n \"n\" : 1.50,\r\n\t\"s\":\"a b\" }".to_owned()).unwrap();
    assert_eq!(encode("a", &raw).unwrap(), r#"{"n":1.50,"s":"a b"}"#);
}

#[test]
fn ids_have_a_length() {
    assert!(check_id("").is_err());
    assert!(check_id("__proto__").is_ok());
    assert!(check_id(&"x".repeat(MAX_ID_BYTES)).is_ok());
    assert!(check_id(&"x".repeat(MAX_ID_BYTES + 1)).is_err());
}

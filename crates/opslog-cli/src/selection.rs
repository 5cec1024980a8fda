//! Which documents a command is about: an expression, conditions, or both.

use jaq_json::{Val, read};
use opslog::Json;

use crate::args::{Conditions, FieldValue, SelectionOptions};
use crate::expression::{Expression, FieldPath, parse};
use crate::failure::Failure;
use crate::open::Documents;

/// A condition, ready to be applied.
struct Test {
    path: FieldPath,
    /// What the value may be: the text itself, and the number, boolean or null that it reads as.
    wanted: Vec<Val>,
}

impl Test {
    fn new(condition: &FieldValue) -> Self {
        let mut wanted = vec![Val::from(condition.value.clone())];
        if let Ok(scalar @ (Val::Null | Val::Bool(_) | Val::Num(_))) =
            read::parse_single(condition.value.as_bytes())
        {
            wanted.push(scalar);
        }
        Self {
            path: FieldPath::new(&condition.field),
            wanted,
        }
    }

    fn holds(&self, document: &Val) -> bool {
        match self.path.find(document) {
            Some(Val::Arr(elements)) => {
                elements.iter().any(|element| self.wanted.contains(element))
            }
            Some(value) => self.wanted.contains(value),
            None => false,
        }
    }
}

/// Decides which documents are meant: those for which everything holds.
pub(crate) struct Selection {
    tests: Vec<Test>,
    expression: Option<Expression>,
}

impl Selection {
    /// By conditions and, where there is one, an expression.
    pub(crate) fn new(options: &SelectionOptions) -> Result<Self, Failure> {
        let expression = options.expression.as_deref().map(Expression::compile);
        Ok(Self {
            expression: expression.transpose()?,
            ..Self::of_conditions(&options.conditions)
        })
    }

    /// By conditions only.
    pub(crate) fn of_conditions(conditions: &Conditions) -> Self {
        Self {
            tests: conditions.conditions.iter().map(Test::new).collect(),
            expression: None,
        }
    }

    /// Whether every document is meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.tests.is_empty() && self.expression.is_none()
    }

    /// Whether the document is meant.
    pub(crate) fn picks(&self, id: &str, text: &str) -> Result<bool, Failure> {
        if self.is_everything() {
            return Ok(true);
        }
        let document = parse(id, text)?;
        if !self.tests.iter().all(|test| test.holds(&document)) {
            return Ok(false);
        }
        match &self.expression {
            Some(expression) => expression.picks(id, document),
            None => Ok(true),
        }
    }

    /// Calls `visit` with the documents of `store` that are meant, in insertion order, until it answers false.
    pub(crate) fn each(
        &self,
        store: &Documents,
        mut visit: impl FnMut(&str, &Json) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        for entry in store.view()?.iter() {
            let entry = entry?;
            let text = entry.json();
            if self.picks(entry.id(), text.as_str())? && !visit(entry.id(), &text)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(conditions: &[&str], document: &str) -> bool {
        let conditions = conditions.iter().map(|text| text.parse().unwrap());
        let conditions = Conditions {
            conditions: conditions.collect(),
        };
        Selection::of_conditions(&conditions)
            .picks("a", document)
            .unwrap()
    }

    #[test]
    fn a_value_matches_as_string_number_or_word() {
        let document = r#"{"text":"8","number":8.0,"word":true,"none":null,"list":["x",2]}"#;
        for condition in [
            "text=8",
            "number=8",
            "word=true",
            "none=null",
            "list=x",
            "list=2",
        ] {
            assert!(picks(&[condition], document), "{condition}");
        }
        for condition in ["text=9", "number=9", "word=false", "missing=null", "list=y"] {
            assert!(!picks(&[condition], document), "{condition}");
        }
    }

    #[test]
    fn a_path_looks_into_objects_unless_the_name_has_the_dot() {
        assert!(picks(&["a.b=1"], r#"{"a":{"b":1}}"#));
        assert!(picks(&["a.b=1"], r#"{"a.b":1,"a":{"b":2}}"#));
    }

    #[test]
    fn all_conditions_must_hold() {
        assert!(picks(&["a=1", "b=2"], r#"{"a":1,"b":2}"#));
        assert!(!picks(&["a=1", "b=3"], r#"{"a":1,"b":2}"#));
    }

    #[test]
    fn integers_are_compared_exactly() {
        assert!(!picks(&["n=9007199254740993"], r#"{"n":9007199254740992}"#));
    }
}

//! jq expressions over documents, and the values that they work on.
//!
//! A document is parsed anew for each use and keeps the digits of its numbers. The jq language is that of the `jaq` crates.

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, ValT as _, Vars};
use jaq_json::{Val, read};

use crate::failure::Failure;
use crate::output::shorten;

/// How deep a document may be nested for an expression: what reads it is recursive.
const DEPTH_MAX: usize = 512;

/// A compiled expression.
pub(crate) struct Expression {
    filter: Filter<JustLut<Val>>,
}

impl Expression {
    /// Compiles `code`.
    pub(crate) fn compile(code: &str) -> Result<Self, Failure> {
        let definitions = jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs());
        let functions = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs());
        let arena = Arena::default();
        let file = File { code, path: () };
        let modules = Loader::new(definitions)
            .load(&arena, file)
            .map_err(|errors| {
                refuse(code, errors.into_iter().flat_map(|(_, error)| lost(error)))
            })?;
        let filter = Compiler::default()
            .with_global_vars(["$id"])
            .with_funs(functions)
            .compile(modules)
            .map_err(|errors| {
                let errors = errors.into_iter().flat_map(|(_, errors)| errors);
                refuse(
                    code,
                    errors.map(|(found, what)| {
                        (format!("there is no {} '{found}'", what.as_str()), found)
                    }),
                )
            })?;
        Ok(Self { filter })
    }

    /// Calls `visit` with each output for the document of `id`, until it answers false.
    pub(crate) fn outputs(
        &self,
        id: &str,
        document: Val,
        mut visit: impl FnMut(Val) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let variables = Vars::new([Val::from(id.to_owned())]);
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, variables);
        for output in self.filter.id.run((context, document)) {
            let value = match output {
                Ok(value) => value,
                // Anything that is not an error is `halt`: no more outputs for this document.
                Err(exception) => match exception.get_err() {
                    Ok(error) => return Err(failed(id, &error)),
                    Err(_) => return Ok(()),
                },
            };
            if !visit(value)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the first output is neither false nor null.
    pub(crate) fn picks(&self, id: &str, document: Val) -> Result<bool, Failure> {
        let mut picked = false;
        self.outputs(id, document, |value| {
            picked = value.as_bool();
            Ok(false)
        })?;
        Ok(picked)
    }
}

/// The value of the document of `id`.
pub(crate) fn parse(id: &str, text: &str) -> Result<Val, Failure> {
    if depth(text) > DEPTH_MAX {
        return Err(Failure::invalid(format!(
            "document '{id}' is nested more than {DEPTH_MAX} deep, which is too deep to look into"
        )));
    }
    read::parse_single(text.as_bytes())
        .or_else(|_| read::parse_single(without_lone_surrogates(text).as_bytes()))
        .map_err(|error| Failure::invalid(format!("document '{id}' cannot be read: {error}")))
}

/// The JSON text with each escape that stands for half a character replaced by U+FFFD: JavaScript writes such strings, and they must not keep a store
/// from being queried.
fn without_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(backslash) = rest.find('\\') {
        let (before, escape) = rest.split_at(backslash);
        out.push_str(before);
        let length = match (surrogate(escape), surrogate(escape.get(6..).unwrap_or(""))) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(_), _) => {
                out.push('\u{fffd}');
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            (None, _) => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        let (kept, after) = escape.split_at(length);
        out.push_str(kept);
        rest = after;
    }
    out + rest
}

/// The surrogate that `text` begins with, as an escape.
fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let code = u32::from_str_radix(digits, 16).ok()?;
    (0xd800..=0xdfff).contains(&code).then_some(code)
}

/// How deep the JSON text is nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn failed(id: &str, error: &jaq_json::Error) -> Failure {
    let reason = shorten(&error.to_string(), 300);
    Failure::invalid(format!("the expression fails on document '{id}': {reason}")).with_hint(
        "put '?' behind what may fail, as in '(.size > 3)?', to pass over such documents",
    )
}

/// What was expected, and the rest of the code from where something else was found.
fn lost(error: load::Error<&str>) -> Vec<(String, &str)> {
    match error {
        load::Error::Io(errors) => errors
            .into_iter()
            .map(|(found, reason)| (reason, found))
            .collect(),
        load::Error::Lex(errors) => errors
            .into_iter()
            .map(|(expected, found)| (format!("{} expected", expected.as_str()), found))
            .collect(),
        load::Error::Parse(errors) => errors
            .into_iter()
            .map(|(expected, found)| (format!("{} expected", expected.as_str()), found))
            .collect(),
    }
}

/// The first of `errors`, with its place in `code`.
fn refuse<'c>(code: &str, errors: impl IntoIterator<Item = (String, &'c str)>) -> Failure {
    let (reason, place) = match errors.into_iter().next() {
        Some((reason, "")) => (reason, "at its end".to_owned()),
        Some((reason, found)) => {
            let start = load::span(code, found).start;
            let before = code.get(..start).unwrap_or(code);
            (
                reason,
                format!("at character {}", before.chars().count() + 1),
            )
        }
        None => ("it cannot be compiled".to_owned(), String::new()),
    };
    Failure::invalid(format!("the expression is not right {place}: {reason}"))
        .with_hint("expressions are those of jq, such as '.section == \"games\"'")
}

/// The way to a field, from the top of a document.
#[derive(Debug, Clone)]
pub(crate) struct FieldPath {
    /// The path as one name, which goes first: a field may have dots in its name.
    whole: Val,
    parts: Vec<Val>,
}

impl FieldPath {
    /// The path that `text`, such as `size.width`, describes.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            whole: Val::from(text.to_owned()),
            parts: text
                .split('.')
                .map(|part| Val::from(part.to_owned()))
                .collect(),
        }
    }

    /// The value there, if there is one.
    pub(crate) fn find<'v>(&self, document: &'v Val) -> Option<&'v Val> {
        field(document, &self.whole).or_else(|| {
            self.parts
                .iter()
                .try_fold(document, |value, part| field(value, part))
        })
    }
}

fn field<'v>(value: &'v Val, name: &Val) -> Option<&'v Val> {
    match value {
        Val::Obj(object) => object.get(name),
        _ => None,
    }
}

/// A value for people: a string without its quotes, anything else as JSON.
pub(crate) fn plain(value: &Val) -> String {
    match value {
        Val::TStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(code: &str, document: &str) -> Vec<String> {
        let expression = Expression::compile(code).unwrap();
        let mut found = Vec::new();
        let value = parse("the-id", document).unwrap();
        expression
            .outputs("the-id", value, |value| {
                found.push(value.to_string());
                Ok(true)
            })
            .unwrap();
        found
    }

    #[test]
    fn an_expression_sees_the_document_and_its_id() {
        assert_eq!(outputs("$id, .a", r#"{"a":1.50}"#), [r#""the-id""#, "1.50"]);
    }

    #[test]
    fn halt_ends_the_outputs_and_not_the_process() {
        assert_eq!(outputs("1, halt, 2", "{}"), ["1"]);
    }

    #[test]
    fn a_wrong_expression_is_located() {
        for (code, place) in [
            (".a ==", "at its end"),
            (".a | nope", "at character 6"),
            ("(.a", "at its end"),
        ] {
            let Err(Failure::Stated { message, .. }) = Expression::compile(code).map(drop) else {
                panic!("{code} was accepted");
            };
            assert!(message.contains(place), "{code}: {message}");
        }
    }

    #[test]
    fn half_a_character_does_not_keep_a_document_from_being_read() {
        let document = r#"{"a":"\ud83d\ude00\ud83d\\ud800\udc00\n"}"#;
        assert_eq!(
            outputs(".a", document),
            ["\"\u{1f600}\u{fffd}\\\\ud800\u{fffd}\\n\""]
        );
    }

    #[test]
    fn a_document_that_is_nested_too_deep_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse("a", &deep).is_err());
        assert_eq!(depth(r#"{"a":"[[[\"[["}"#), 1);
    }
}

//! JSON text on several lines and in colour, without touching what it says: the digits of a number stay as they are.

use anstyle::{AnsiColor, Style};

use crate::output::{paint, printable};

const KEY: Style = AnsiColor::Blue.on_default();
const STRING: Style = AnsiColor::Green.on_default();
const NUMBER: Style = AnsiColor::Cyan.on_default();
const WORD: Style = AnsiColor::Magenta.on_default();

/// Lays out `text`, which is valid JSON.
pub(crate) fn pretty(text: &str, colored: bool) -> String {
    let mut layout = Layout {
        out: String::with_capacity(text.len() * 2),
        depth: 0,
        colored,
    };
    let mut rest = text.trim_start();
    while let Some(token) = next_token(rest) {
        rest = rest.get(token.len()..).unwrap_or_default().trim_start();
        layout.push(token, rest);
        if token == "{" && rest.starts_with('}') || token == "[" && rest.starts_with(']') {
            let close = rest.get(..1).unwrap_or_default();
            layout.depth -= 1;
            layout.out.push_str(close);
            rest = rest.get(1..).unwrap_or_default().trim_start();
        } else if token == "{" || token == "[" {
            layout.new_line();
        }
    }
    layout.out
}

struct Layout {
    out: String,
    depth: usize,
    colored: bool,
}

impl Layout {
    fn push(&mut self, token: &str, rest: &str) {
        match token {
            "{" | "[" => {
                self.depth += 1;
                self.out.push_str(token);
            }
            "}" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                self.new_line();
                self.out.push_str(token);
            }
            "," => {
                self.out.push(',');
                self.new_line();
            }
            ":" => self.out.push_str(": "),
            "true" | "false" | "null" => self.paint(WORD, token),
            _ if token.starts_with('"') && rest.starts_with(':') => self.paint(KEY, token),
            _ if token.starts_with('"') => self.paint(STRING, token),
            _ => self.paint(NUMBER, token),
        }
    }

    fn paint(&mut self, style: Style, token: &str) {
        // JSON escapes the control characters below U+0020 only.
        let token = printable(token);
        self.out.push_str(&paint(style, &token, self.colored));
    }

    fn new_line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
    }
}

/// The token that `text` begins with.
fn next_token(text: &str) -> Option<&str> {
    let first = text.bytes().next()?;
    let length = match first {
        b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
        b'"' => string_length(text),
        _ => text
            .bytes()
            .position(|byte| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace())
            .unwrap_or(text.len()),
    };
    text.get(..length.max(1))
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_laid_out_and_numbers_keep_their_digits() {
        let text = r#"{"a":1.50,"b":[],"c":[1e400,"x\",{"],"d":{"e":null},"f":{}}"#;
        let expected = "{\n  \"a\": 1.50,\n  \"b\": [],\n  \"c\": [\n    1e400,\n    \"x\\\",{\"\n  ],\n  \"d\": {\n    \"e\": null\n  },\n  \"f\": {}\n}";
        assert_eq!(pretty(text, false), expected);
    }

    #[test]
    fn keys_and_values_have_their_colours() {
        let text = pretty(r#"{"a":true}"#, true);
        assert!(text.contains("\u{1b}[34m\"a\"\u{1b}[0m: \u{1b}[35mtrue\u{1b}[0m"));
    }
}

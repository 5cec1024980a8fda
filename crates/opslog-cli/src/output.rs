//! The standard output: tables and colour for people, JSON Lines for programs.
//!
//! Invariant: with [`Format::Json`] nothing is ever written but JSON (and the completions script), one value a line, document text as it is stored.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Row, Table, presets};

use crate::args::{ColorWhen, OutputOptions};
use crate::failure::Failure;
use crate::pretty;

/// What a header of a table looks like.
const HEADER: Style = Style::new().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// What was added.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What was taken away, or is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// The width of a table where the terminal's is not known.
const DEFAULT_WIDTH: u16 = 100;

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The standard output.
pub(crate) struct Output {
    writer: BufWriter<Stdout>,
    format: Format,
    colored: bool,
    width: u16,
}

impl Output {
    /// The standard output, in the way that the options and the terminal ask for.
    pub(crate) fn new(options: &OutputOptions) -> Self {
        let stdout = io::stdout();
        let format = if options.json || !(options.table || stdout.is_terminal()) {
            Format::Json
        } else {
            Format::Table
        };
        match options.color {
            ColorWhen::Auto => {}
            ColorWhen::Always => ColorChoice::Always.write_global(),
            ColorWhen::Never => ColorChoice::Never.write_global(),
        }
        let colored = AutoStream::choice(&stdout) != ColorChoice::Never;
        let width = terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| width.0);
        Self {
            writer: BufWriter::new(stdout),
            format,
            colored,
            width,
        }
    }

    /// Whether the output is for people.
    pub(crate) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// How many characters fit on a line.
    pub(crate) fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// Writes `text` and a line break.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer
            .write_all(bytes)
            .map_err(|error| Failure::writing(&error))
    }

    /// Writes a document and its id as `{"id":…,"data":…}`.
    pub(crate) fn document(&mut self, id: &str, data: &str) -> Result<(), Failure> {
        let id = json_string(id);
        self.bytes(b"{\"id\":")?;
        self.bytes(id.as_bytes())?;
        self.bytes(b",\"data\":")?;
        self.bytes(data.as_bytes())?;
        self.bytes(b"}\n")
    }

    /// Writes JSON text: for people on several lines and in colour, for programs as it is.
    pub(crate) fn json(&mut self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(text),
            Format::Table => {
                let text = pretty::pretty(text, self.colored);
                self.line(&text)
            }
        }
    }

    /// Says what a command has done: `sentence` to people, `facts` to programs.
    pub(crate) fn outcome(
        &mut self,
        sentence: &str,
        facts: &serde_json::Value,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(&facts.to_string()),
            Format::Table => self.line(&printable(sentence)),
        }
    }

    /// Writes a table, each row on one line, cut where the terminal ends.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_truncation_indicator("…")
            .set_width(self.width)
            .set_header(header);
        for cells in rows {
            let cells = cells.iter().map(|cell| shorten(cell, self.width()));
            let mut row = Row::from(cells.collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        for (number, line) in table.lines().enumerate() {
            let line = line.trim_end();
            let line = if number == 0 {
                self.paint(HEADER, line)
            } else {
                line.to_owned()
            };
            self.line(&line)?;
        }
        Ok(())
    }

    /// `text` in `style`, where colour is wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(style, text, self.colored)
    }

    /// Hands what was written so far to whoever reads it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer
            .flush()
            .map_err(|error| Failure::writing(&error))
    }
}

/// `text` in `style`, if it is to be `colored`.
pub(crate) fn paint(style: Style, text: &str, colored: bool) -> String {
    if colored {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `text` with its control characters escaped, so that it cannot play tricks on a terminal.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// At most `limit` characters of `text`, fit for a terminal.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => printable(text),
        Some((end, _)) => {
            let start = text.get(..end).unwrap_or(text);
            printable(start) + "…"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(printable("plain é"), "plain é");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shorten("ééé", 2), "éé…");
        assert_eq!(shorten("éé", 2), "éé");
    }
}

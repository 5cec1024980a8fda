//! The documents in a file that is to be imported: JSON Lines, or one JSON array.
//!
//! The input is read more than once, so what cannot be rewound goes through a temporary file. One line, or one element, is in memory at a time.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::Path;
use std::rc::Rc;

use opslog::Json;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::fields::Fields;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a document that is not what `export` prints.
pub(crate) const NOT_EXPORTED: &str =
    "not of the form {\"id\":…,\"data\":{…}}; name the field of the id with --id FIELD";

/// How a document's id is found.
pub(crate) enum Identity {
    /// The documents are what `export` prints: `{"id":…,"data":{…}}`.
    Exported,
    /// The id is in this field of the document.
    Field(String),
}

/// A document to import.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// A line, or an element of the array, and where it is.
pub(crate) struct Item {
    /// From 1.
    pub(crate) line: u64,
    /// The document, or what is wrong.
    pub(crate) document: Result<Document, String>,
}

/// What is to be imported, ready to be read as often as need be.
pub(crate) struct Input {
    /// What to call it in messages.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    file: File,
}

impl Input {
    /// Opens the file at `path`, or the standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Self::spool("the standard input", io::stdin().lock());
        }
        let name = path.display().to_string();
        #[expect(
            clippy::disallowed_methods,
            reason = "the file is the user's, not the store's"
        )]
        let file = File::open(path).map_err(|error| Failure::reading(&name, &error))?;
        let facts = file
            .metadata()
            .map_err(|error| Failure::reading(&name, &error))?;
        if facts.is_dir() {
            return Err(Failure::invalid(format!(
                "{name} is a directory; name a file with documents"
            ))
            .with_hint("a copy that 'opslog backup' has made comes back with 'opslog restore'"));
        }
        if !facts.is_file() {
            return Self::spool(&name, file);
        }
        Ok(Self {
            name,
            size: facts.len(),
            file,
        })
    }

    /// Copies what can be read only once to a file without a name.
    fn spool(name: &str, mut source: impl Read) -> Result<Self, Failure> {
        let mut copy = || -> io::Result<(File, u64)> {
            let mut file = tempfile::tempfile()?;
            let size = io::copy(&mut source, &mut file)?;
            Ok((file, size))
        };
        let (file, size) = copy().map_err(|error| Failure::reading(name, &error))?;
        Ok(Self {
            name: name.to_owned(),
            size,
            file,
        })
    }

    /// Calls `visit` with each item, from the beginning; `wrap` may watch the bytes go by.
    pub(crate) fn read<R: Read>(
        &self,
        identity: &Identity,
        wrap: impl FnOnce(File) -> R,
        visit: &mut dyn FnMut(Item) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let begin = || -> io::Result<_> {
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            let mut reader = BufReader::with_capacity(1 << 16, wrap(file));
            let first_line = skip_blank(&mut reader)?;
            let is_array = reader.fill_buf()?.starts_with(b"[");
            Ok((reader, first_line, is_array))
        };
        let (reader, first_line, is_array) =
            begin().map_err(|error| Failure::reading(&self.name, &error))?;
        if is_array {
            self.read_array(reader, first_line, identity, visit)
        } else {
            self.read_lines(reader, first_line, identity, visit)
        }
    }

    fn read_lines(
        &self,
        mut reader: impl BufRead,
        first_line: u64,
        identity: &Identity,
        visit: &mut dyn FnMut(Item) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for line in first_line.. {
            bytes.clear();
            let read = reader
                .read_until(b'\n', &mut bytes)
                .map_err(|error| Failure::reading(&self.name, &error))?;
            if read == 0 {
                break;
            }
            let content = bytes.trim_ascii();
            if content.is_empty() {
                continue;
            }
            let document = match std::str::from_utf8(content) {
                Ok(text) => decode(text, identity),
                Err(error) => Err(format!("not UTF-8 at byte {} of it", error.valid_up_to())),
            };
            visit(Item { line, document })?;
        }
        Ok(())
    }

    fn read_array(
        &self,
        reader: impl BufRead,
        first_line: u64,
        identity: &Identity,
        visit: &mut dyn FnMut(Item) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let place = Rc::new(Place::default());
        place.line.set(first_line);
        let counting = CountingReader {
            reader,
            place: Rc::clone(&place),
        };
        let mut deserializer = serde_json::Deserializer::from_reader(counting);
        let mut failure = None;
        let elements = Elements {
            place: &place,
            identity,
            visit,
            failure: &mut failure,
        };
        let result = deserializer
            .deserialize_seq(elements)
            .and_then(|()| deserializer.end());
        match (result, failure) {
            (_, Some(failure)) => Err(failure),
            (Ok(()), None) => Ok(()),
            (Err(error), None) if error.is_io() => Err(Failure::reading(&self.name, &error.into())),
            (Err(error), None) => Err(Failure::invalid(format!(
                "{}: line {}: the array cannot be read on from here: {error}",
                self.name,
                place.line.get(),
            ))
            .with_hint("nothing was imported; mend the file, or give one document a line")),
        }
    }
}

/// Whether a store takes the document, and programs can read it: JSON's grammar also allows numbers beyond every type, and half characters.
pub(crate) fn check(id: &str, text: &str) -> Result<(), String> {
    opslog::check_document(id, text).map_err(|error| error.message().to_owned())?;
    let document = Json::from(text.to_owned());
    document.decode::<Value>().map(drop).map_err(|error| {
        let text = error.message();
        let message = text.split(" at line ").next().unwrap_or(text);
        format!(
            "document '{id}' has half a character, or a number beyond what a program can hold: {message}"
        )
    })
}

/// The document that `text` is, or what is wrong with it.
fn decode(text: &str, identity: &Identity) -> Result<Document, String> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| reason(&error))?;
    let text = raw.get();
    if !text.starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    let fields = Fields::parse(text).map_err(|error| reason(&error))?;
    let (id, text) = match identity {
        Identity::Exported => exported(&fields)?,
        Identity::Field(name) => {
            let id = fields
                .get(name)
                .ok_or_else(|| format!("it has no field '{name}' for the id"))?;
            (id, text)
        }
    };
    let id = decode_id(id.get())?;
    check(&id, text)?;
    Ok(Document {
        id,
        text: text.to_owned(),
    })
}

/// Skips a byte order mark and white space; returns the number of the line that comes then.
fn skip_blank(reader: &mut impl BufRead) -> io::Result<u64> {
    if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    let mut line = 1;
    loop {
        let buffer = reader.fill_buf()?;
        let blank = buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        let skipped = buffer.iter().take(blank);
        line += skipped.filter(|byte| **byte == b'\n').count() as u64;
        let more = blank > 0 && blank == buffer.len();
        reader.consume(blank);
        if !more {
            return Ok(line);
        }
    }
}

fn exported(fields: &Fields) -> Result<(&RawValue, &str), String> {
    let known = fields.names().all(|name| name == "id" || name == "data");
    let (Some(id), Some(data), true) = (fields.get("id"), fields.get("data"), known) else {
        return Err(NOT_EXPORTED.to_owned());
    };
    if !data.get().starts_with('{') {
        return Err("its data is not a JSON object".to_owned());
    }
    Ok((id, data.get()))
}

fn decode_id(text: &str) -> Result<String, String> {
    let is_integer = text
        .strip_prefix('-')
        .unwrap_or(text)
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    if text.starts_with('"') {
        serde_json::from_str(text).map_err(|error| format!("its id: {}", reason(&error)))
    } else if is_integer {
        Ok(text.to_owned())
    } else {
        Err("its id is neither a string nor an integer".to_owned())
    }
}

/// What is wrong, with the column only: the line is that of the file.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    match error.column() {
        0 => message.to_owned(),
        column => format!("{message} at column {column}"),
    }
}

/// Where a reader is.
#[derive(Default)]
struct Place {
    line: Cell<u64>,
    after_newline: Cell<bool>,
}

impl Place {
    /// The line on which `element` begins, which was just read.
    fn start_of(&self, element: &str) -> u64 {
        let inside = element.bytes().filter(|byte| *byte == b'\n').count() as u64;
        // The end of a number is known only by what follows it.
        let ahead = u64::from(self.after_newline.get());
        self.line.get().saturating_sub(inside + ahead)
    }
}

/// Counts the lines that go by.
struct CountingReader<R> {
    reader: R,
    place: Rc<Place>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        let newlines = bytes.iter().filter(|byte| **byte == b'\n');
        let lines = newlines.fold(self.place.line.get(), |lines, _| lines + 1);
        self.place.line.set(lines);
        if let Some(last) = bytes.last() {
            self.place.after_newline.set(*last == b'\n');
        }
        Ok(read)
    }
}

/// The elements of the array, one after the other.
struct Elements<'e> {
    place: &'e Place,
    identity: &'e Identity,
    visit: &'e mut dyn FnMut(Item) -> Result<(), Failure>,
    failure: &'e mut Option<Failure>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            let item = Item {
                line: self.place.start_of(element.get()),
                document: decode(element.get(), self.identity),
            };
            if let Err(failure) = (self.visit)(item) {
                *self.failure = Some(failure);
                return Err(A::Error::custom("the visitor has failed"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn items(text: &[u8], identity: &Identity) -> Vec<(u64, Result<String, String>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let input = Input {
            name: "test".to_owned(),
            size: 0,
            file,
        };
        let mut found = Vec::new();
        input
            .read(identity, |file| file, &mut |item| {
                let document = item
                    .document
                    .map(|found| format!("{}={}", found.id, found.text));
                found.push((item.line, document));
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn lines_are_counted_with_blank_ones_and_without_the_byte_order_mark() {
        let text = b"\xef\xbb\xbf\n{\"n\":1}\r\n\n  {\"n\":\"x\"}";
        let found = items(text, &Identity::Field("n".to_owned()));
        assert_eq!(found[0], (2, Ok("1={\"n\":1}".to_owned())));
        assert_eq!(found[1], (4, Ok("x={\"n\":\"x\"}".to_owned())));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn elements_of_an_array_know_their_line() {
        let text =
            b"\n[\n{\"id\":\"a\",\"data\":{\n\"n\":1}},\n7\n, {\"id\":\"b\",\"data\":{}}\n]\n";
        let found = items(text, &Identity::Exported);
        assert_eq!(found[0].0, 3);
        assert_eq!(found[1], (5, Err("not a JSON object".to_owned())));
        assert_eq!(found[2], (6, Ok("b={}".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_said_of_each_line() {
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(opslog::MAX_ID_BYTES + 1));
        let cases: [(&[u8], &str); 8] = [
            (b"{\"id\":\"a\"", "column 9"),
            (b"3", "not a JSON object"),
            (b"{\"name\":1}", "no field 'id'"),
            (b"{\"id\":1.5}", "neither a string nor an integer"),
            (b"{\"id\":null}", "neither a string nor an integer"),
            (b"{\"id\":\"\"}", "empty"),
            (b"{\"id\":\"\xff\"}", "not UTF-8"),
            (long.as_bytes(), "65537"),
        ];
        for (line, expected) in cases {
            let found = items(line, &Identity::Field("id".to_owned()));
            let reason = found[0].1.as_ref().unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn without_a_field_only_what_export_prints_is_accepted() {
        for line in [
            "{\"id\":\"a\",\"name\":\"b\"}",
            "{\"id\":\"a\",\"data\":{},\"more\":1}",
            "{\"id\":\"a\",\"data\":3}",
        ] {
            assert!(items(line.as_bytes(), &Identity::Exported)[0].1.is_err());
        }
    }
}

//! A document: its JSON bytes, and `T` decoded from them on demand.
//!
//! Invariant: the text is one JSON object on one line, valid UTF-8, as it stands on disk. Documents that came from one
//! read share its buffer, so opening a store neither parses nor copies each of them.

use std::fmt;
use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};

use arcstr::{ArcStr, Substr};
use memchr::memmem::Finder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::json;
use crate::{Error, Result};

/// The longest id, in bytes of UTF-8.
///
/// ```
/// let id = "x".repeat(opslog::MAX_ID_BYTES + 1);
/// assert!(opslog::check_document(&id, "{}").is_err());
/// ```
pub const MAX_ID_BYTES: usize = 65_536;

/// The largest document, in bytes of JSON.
const BYTES_MAX: usize = 1 << 31;

static NULL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"null"));

/// The deepest nesting of a document. Decoding takes stack by the level, and must not run out of it on any thread.
const DEPTH_MAX: usize = 256;

/// Types that a [`Store`](crate::Store) can hold: anything that serde turns into a JSON object and back.
///
/// Implemented for every type that can be; `serde_json::Value` and `Box<serde_json::value::RawValue>` (raw JSON) among them.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Task {
///     title: String,
/// }
///
/// fn is_document<T: opslog::Document>() {}
/// is_document::<Task>();
/// is_document::<serde_json::Value>();
/// ```
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Document for T {}

/// JSON text of one document, shared and cheap to clone.
///
/// ```
/// use opslog::Store;
/// let store: Store = Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let text = store.get_json("a")?.expect("just set");
/// assert_eq!(text.as_str(), r#"{"n":1}"#);
/// let value: serde_json::Value = text.decode()?;
/// assert_eq!(value["n"], 1);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Json {
    text: Substr,
}

impl Json {
    /// The text.
    ///
    /// ```
    /// let json = opslog::Json::from(r#"{"n":1}"#.to_owned());
    /// assert_eq!(json.as_str(), r#"{"n":1}"#);
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text decoded as `U`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when it does not fit `U`.
    ///
    /// ```
    /// let json = opslog::Json::from(r#"{"n":1}"#.to_owned());
    /// let value: serde_json::Value = json.decode()?;
    /// assert_eq!(value["n"], 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn decode<U: DeserializeOwned>(&self) -> Result<U> {
        decode(self.as_str())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self {
            text: ArcStr::from(text).into(),
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document under its id, in a buffer that it may share, with `T` decoded at most once.
///
/// The buffer is an `ArcStr`, whose text lies behind its count: one step from here to the text, and a range that was checked when it was made is not
/// checked again, which would read the text (a `filter` over 1,000,000 decoded documents took 55 ms with `Arc<String>` and ranges, and 25 so).
pub(crate) struct Stored<T> {
    id: Substr,
    /// Where the document is in the id's buffer.
    data: (u32, u32),
    decoded: OnceLock<Arc<T>>,
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            data: self.data,
            decoded: self.decoded.clone(),
        }
    }
}

impl<T> Stored<T> {
    /// A document of its own buffer.
    pub(crate) fn new(id: &str, data: &str) -> Self {
        let buffer = ArcStr::init_with(id.len() + data.len(), |buffer| {
            let (front, back) = buffer.split_at_mut(id.len());
            front.copy_from_slice(id.as_bytes());
            back.copy_from_slice(data.as_bytes());
        });
        let buffer = buffer.expect("two texts one behind the other are text");
        Self::of(&buffer, id.len())
    }

    /// A document whose buffer is the id, `id_length` bytes long, and the data.
    fn of(buffer: &ArcStr, id_length: usize) -> Self {
        let end = buffer.len();
        Self::shared(buffer, 0..id_length, id_length..end)
    }

    /// A document whose id and data are ranges of a shared buffer.
    pub(crate) fn shared(buffer: &ArcStr, id: Range<usize>, data: Range<usize>) -> Self {
        Self {
            id: buffer.substr(id),
            data: (offset(data.start), offset(data.end)),
            decoded: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The id as a text that shares the document's buffer.
    pub(crate) fn shared_id(&self) -> Substr {
        self.id.clone()
    }

    fn data_range(&self) -> Range<usize> {
        self.data.0 as usize..self.data.1 as usize
    }

    pub(crate) fn data(&self) -> &str {
        self.id
            .parent()
            .get(self.data_range())
            .expect("ranges are made on character boundaries of their buffer")
    }

    pub(crate) fn json(&self) -> Json {
        Json {
            text: self.id.parent().substr(self.data_range()),
        }
    }

    /// Bytes of id and data.
    pub(crate) fn size(&self) -> usize {
        self.id.len() + self.data_range().len()
    }
}

impl<T: Document> Stored<T> {
    /// The decoded document; the first call decodes it.
    #[inline]
    pub(crate) fn decoded(&self) -> Result<&Arc<T>> {
        match self.decoded.get() {
            Some(document) => Ok(document),
            None => self.decode(),
        }
    }

    /// Reads a little of the decoded document, so that the processor has it at hand.
    #[inline]
    pub(crate) fn touch(&self) {
        black_box(self.decoded.get().map_or(0, Arc::strong_count));
    }

    #[cold]
    fn decode(&self) -> Result<&Arc<T>> {
        let document: T = decode(self.data()).map_err(|error| {
            if let Err(reason) = json::validate(self.data()) {
                return Error::corrupt(format!(
                    "document '{}' is not valid JSON: {reason}; `opslog verify` says where it is",
                    self.id()
                ));
            }
            Error::invalid(format!(
                "document '{}' does not fit the store's type: {}",
                self.id(),
                error.message()
            ))
        })?;
        Ok(self.decoded.get_or_init(|| Arc::new(document)))
    }
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("buffers are limited to 4 GiB")
}

fn decode<U: DeserializeOwned>(text: &str) -> Result<U> {
    serde_json::from_str(text)
        .or_else(|error| {
            // It may be serde's limit of 127 levels, which is below ours.
            if !(128..=DEPTH_MAX).contains(&depth(text)) {
                return Err(error);
            }
            let mut deserializer = serde_json::Deserializer::from_str(text);
            deserializer.disable_recursion_limit();
            U::deserialize(&mut deserializer)
        })
        .map_err(|error| Error::invalid(error.to_string()).caused_by(error))
}

/// How deep objects and arrays are nested in valid JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
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

/// Accepts an id, or says what is wrong with it.
pub(crate) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid("a document's id must not be empty"));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(Error::invalid(format!(
            "a document's id must not be longer than {MAX_ID_BYTES} bytes; this one has {}",
            id.len()
        )));
    }
    Ok(())
}

/// `document` under `id`, as it is stored: its JSON text on one line, if it is an object that reads back as it is.
pub(crate) fn encode<T, D: Serialize>(id: &str, document: &D) -> Result<Stored<T>> {
    check_id(id)?;
    let mut buffer = Vec::with_capacity(id.len() + 256);
    buffer.extend_from_slice(id.as_bytes());
    serde_json::to_writer(&mut buffer, document).map_err(|error| {
        Error::invalid(format!(
            "document '{id}' cannot be written as JSON: {error}"
        ))
        .caused_by(error)
    })?;
    let buffer = String::from_utf8(buffer).expect("JSON is written as UTF-8");
    accept(buffer, id.len(), || finite::check(document))
}

/// As [`encode`], for text that is JSON already.
pub(crate) fn encode_text<T>(id: &str, text: &str) -> Result<Stored<T>> {
    check_id(id)?;
    json::validate(text)
        .map_err(|reason| Error::invalid(format!("document '{id}' is not valid JSON: {reason}")))?;
    accept([id, &json::compact(text)].concat(), id.len(), || Ok(()))
}

/// Whether a store would take this JSON text as a document under this id: what `set_json` checks before it writes.
///
/// # Errors
///
/// `InvalidInput`, as `set_json` would answer.
///
/// ```
/// assert!(opslog::check_document("a", r#"{"n": 1}"#).is_ok());
/// assert!(opslog::check_document("a", "[1]").is_err());
/// assert!(opslog::check_document("", "{}").is_err());
/// ```
pub fn check_document(id: &str, text: &str) -> Result<()> {
    encode_text::<()>(id, text).map(drop)
}

/// Turns a buffer of an id, `id_length` bytes long, and JSON text into a document.
fn accept<T>(
    mut buffer: String,
    id_length: usize,
    finite: impl FnOnce() -> Result<(), finite::NotFinite>,
) -> Result<Stored<T>> {
    let (id, text) = buffer
        .split_at_checked(id_length)
        .expect("the buffer begins with the id");
    // Raw JSON passes through as it was given, line breaks included; a log line must not have any.
    if !text.starts_with('{') || memchr::memchr3(b'\n', b'\r', b'\t', text.as_bytes()).is_some() {
        buffer = [id, &json::compact(text)].concat();
    }
    let (id, text) = buffer.split_at(id_length);
    let refuse = |reason: String| Err(Error::invalid(format!("document '{id}' {reason}")));
    if !text.starts_with('{') {
        return refuse(format!("must be a JSON object, not {}", describe(text)));
    }
    if text.len() > BYTES_MAX {
        return refuse("is larger than 2 GiB; keep large content in a blob".to_owned());
    }
    // Few brackets cannot be nested deeply, and are counted a vector at a time; `depth` takes the text byte by byte.
    let mut brackets = memchr::memchr2_iter(b'{', b'[', text.as_bytes());
    if brackets.nth(DEPTH_MAX).is_some() && depth(text) > DEPTH_MAX {
        return refuse(format!(
            "is nested deeper than {DEPTH_MAX} levels; make it flatter"
        ));
    }
    // serde_json writes a number that is not finite as `null`: only a text with a null needs the second look.
    if NULL.find(text.as_bytes()).is_some()
        && let Err(error) = finite()
    {
        return refuse(format!("contains {error}, which JSON cannot express"));
    }
    Ok(Stored::of(&ArcStr::from(buffer), id_length))
}

fn describe(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

mod finite;

#[cfg(test)]
mod tests;

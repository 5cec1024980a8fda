//! What can still be read of a damaged file, piece by piece. Changes nothing; `repair` decides what becomes of it.

use std::collections::HashSet;
use std::ops::Range;

use crate::Result;
use crate::backend::Object;
use crate::format::{json, op_line, snapshot};
use crate::oplog::Lines;

/// How much is read at a time where a larger read failed.
const SECTOR: usize = 4096;

/// An object of which bytes that the storage refuses to give read as NUL.
pub(crate) struct Forbearing(pub(crate) Box<dyn Object>);

impl Object for Forbearing {
    fn size(&self) -> Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if let Ok(read) = self.0.read_at(offset, buffer) {
            return Ok(read);
        }
        let left = self.size()?.saturating_sub(offset);
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        for (number, sector) in buffer.chunks_mut(SECTOR).enumerate() {
            let at = offset + (number * SECTOR) as u64;
            if self.0.read_at(at, sector).ok() != Some(sector.len()) {
                sector.fill(0);
            }
        }
        Ok(length)
    }
}

/// An object in which some bytes read otherwise.
pub(crate) struct Mended {
    pub(crate) object: Box<dyn Object>,
    /// Offsets and bytes.
    pub(crate) patches: Vec<(u64, u8)>,
}

impl Object for Mended {
    fn size(&self) -> Result<u64> {
        self.object.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let read = self.object.read_at(offset, buffer)?;
        for (place, byte) in &self.patches {
            let place = place
                .checked_sub(offset)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(there) = place.and_then(|at| buffer.get_mut(..read)?.get_mut(at)) {
                *there = *byte;
            }
        }
        Ok(read)
    }
}

/// A part that cannot be read as what it was.
pub(crate) struct Unreadable {
    pub(crate) range: Range<u64>,
    pub(crate) reason: String,
    /// The ids that can still be made out in it.
    pub(crate) ids: Vec<String>,
}

/// What a snapshot still says.
#[derive(Default)]
pub(crate) struct SnapshotRemains {
    pub(crate) version: Option<u32>,
    /// When it was written, as its header says.
    pub(crate) timestamp: Option<String>,
    /// Ids and compact documents, in their order.
    pub(crate) documents: Vec<(String, String)>,
    /// Which of the lines behind the header each is.
    pub(crate) places: Vec<usize>,
    /// How many lines there are behind the header, readable or not.
    pub(crate) lines: u64,
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

/// Reads every line that is one.
///
/// # Errors
///
/// Those of examining the object.
pub(crate) fn snapshot(object: &dyn Object) -> Result<SnapshotRemains> {
    let mut remains = SnapshotRemains {
        bytes: object.size()?,
        ..SnapshotRemains::default()
    };
    let mut start = vec![0; SECTOR];
    let read = object.read_at(0, &mut start)?;
    start.truncate(read);
    if snapshot::is_legacy(&start) {
        remains.take_legacy(&crate::load::read_all(object)?);
        return Ok(remains);
    }
    let mut lines = Lines::new(object, 0);
    let mut header_due = true;
    while let Some(line) = lines.next()? {
        let newline: &[u8] = if line.terminated { b"\n" } else { b"" };
        remains.crc = crc32c::crc32c_append(remains.crc, line.bytes);
        remains.crc = crc32c::crc32c_append(remains.crc, newline);
        if line.is_blank() {
            continue;
        }
        let is_first = std::mem::take(&mut header_due);
        if is_first && let Ok(header) = snapshot::decode_header(line.bytes) {
            remains.version = Some(header.version);
            remains.timestamp = Some(header.timestamp);
            continue;
        }
        let decoded = match std::str::from_utf8(line.bytes) {
            Ok(text) => snapshot::decode_line(text),
            Err(_) => Err("the line is not UTF-8".to_owned()),
        };
        // What cannot be read in the place of the header was the header.
        remains.lines += u64::from(!is_first || decoded.is_ok());
        match decoded {
            Ok((id, data)) => {
                let document = (id.into_owned(), json::compact(data));
                remains.documents.push(document);
                let place = usize::try_from(remains.lines - 1).unwrap_or(usize::MAX);
                remains.places.push(place);
            }
            Err(reason) => remains.unreadable.push(Unreadable {
                range: line.offset..line.end(),
                reason,
                ids: ids_in(line.bytes),
            }),
        }
    }
    if remains.version.is_none() {
        remains.unreadable.push(Unreadable {
            range: 0..0,
            reason: "its header is missing".to_owned(),
            ids: Vec::new(),
        });
    }
    Ok(remains)
}

impl SnapshotRemains {
    /// What is wrong with the number of documents, of which there should be `fewest` at least, and, where `once`, none twice.
    pub(crate) fn miscounted(&self, fewest: u64, once: bool) -> Option<String> {
        let ids: HashSet<&str> = self.documents.iter().map(|(id, _)| id.as_str()).collect();
        if once && ids.len() < self.documents.len() {
            return Some("an id occurs in it more than once".to_owned());
        }
        ((ids.len() as u64) < fewest).then(|| format!("it was written with {fewest} documents"))
    }

    fn take_legacy(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes);
        if let Ok(Ok((header, documents))) = text.map(snapshot::decode_legacy) {
            self.version = Some(header.version);
            self.timestamp = Some(header.timestamp);
            self.documents = documents;
            return;
        }
        let remains = damaged_segment(bytes);
        self.version = remains.version;
        self.timestamp = remains.timestamp;
        self.documents = remains.documents;
        self.unreadable = remains.unreadable;
    }
}

/// What a damaged archive segment, or a legacy snapshot, still says.
#[derive(Default)]
pub(crate) struct SegmentRemains {
    pub(crate) version: Option<u32>,
    pub(crate) timestamp: Option<String>,
    pub(crate) documents: Vec<(String, String)>,
    pub(crate) unreadable: Vec<Unreadable>,
}

/// As [`segment`], for a file that is known to be damaged: where every record reads well, it is not known which of them did not.
pub(crate) fn damaged_segment(bytes: &[u8]) -> SegmentRemains {
    let mut remains = segment(bytes);
    if remains.unreadable.is_empty() {
        remains.unreadable.push(Unreadable {
            range: 0..bytes.len() as u64,
            reason: "it is not valid JSON as a whole".to_owned(),
            ids: Vec::new(),
        });
    }
    remains
}

/// Reads the records of a file that is not valid JSON as a whole, but is laid out as `format::archive` does it: a record begins at a line that is
/// indented by four, and ends before the next such line.
pub(crate) fn segment(bytes: &[u8]) -> SegmentRemains {
    let mut remains = SegmentRemains::default();
    let mut record: Option<usize> = None;
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut indented = line.strip_prefix(b"    ").into_iter().flatten();
        let begins = indented
            .next()
            .is_some_and(|byte| !matches!(byte, b' ' | b'}'));
        let outside = !line.starts_with(b"    ");
        if let Some(start) = record.take_if(|_| begins || outside) {
            remains.add_record(bytes, start, offset);
        }
        if begins {
            record = Some(offset);
        } else if record.is_none() && !(outside && remains.add_header(line)) {
            remains.add_unreadable(offset..offset + line.len());
        }
        offset += line.len();
    }
    if let Some(start) = record {
        remains.add_record(bytes, start, offset);
    }
    remains.documents = json::last_wins(remains.documents);
    let is_closed = bytes.trim_ascii_end().ends_with(b"\n}");
    if !is_closed && remains.unreadable.is_empty() {
        let end = bytes.len() as u64;
        remains.unreadable.push(Unreadable {
            range: end..end,
            reason: "its end is missing".to_owned(),
            ids: Vec::new(),
        });
    }
    if remains.documents.is_empty() && remains.unreadable.is_empty() {
        remains.unreadable.push(Unreadable {
            range: 0..bytes.len() as u64,
            reason: "no document can be made out in it".to_owned(),
            ids: Vec::new(),
        });
    }
    remains
}

impl SegmentRemains {
    /// Takes what a line outside the records says, if it is one that belongs there.
    fn add_header(&mut self, line: &[u8]) -> bool {
        let member = std::str::from_utf8(line).unwrap_or("?");
        let member = member.trim().trim_end_matches(',');
        if ["", "{", "}", "\"records\": {"].contains(&member) {
            return true;
        }
        let object = format!("{{{member}}}");
        if json::validate(&object).is_err() {
            return false;
        }
        match json::members(&object).as_deref() {
            Some([("\"version\"", number)]) => {
                self.version = number.parse().ok().filter(|version| *version > 0);
            }
            Some([("\"timestamp\"", text)]) => {
                let text = json::unescape(text).filter(|text| !text.is_empty());
                self.timestamp = text.map(Into::into);
            }
            _ => {}
        }
        true
    }

    /// Takes bytes that are no part of a record, and nothing else that is known.
    fn add_unreadable(&mut self, range: Range<usize>) {
        let range = range.start as u64..range.end as u64;
        match self.unreadable.last_mut() {
            Some(last) if last.ids.is_empty() && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ => self.unreadable.push(Unreadable {
                range,
                reason: "no record can be made out there".to_owned(),
                ids: Vec::new(),
            }),
        }
    }

    /// Takes the record in `bytes[start..end]`.
    fn add_record(&mut self, bytes: &[u8], start: usize, end: usize) {
        let record = bytes.get(start..end).unwrap_or_default();
        let text = String::from_utf8_lossy(record);
        // The last record has the brace of the object around it behind it.
        let text = text.trim_ascii().trim_end_matches(',');
        let candidates = [Some(text), text.strip_suffix('}')];
        for text in candidates.into_iter().flatten() {
            let object = format!("{{{text}}}");
            if std::str::from_utf8(record).is_ok()
                && json::validate(&object).is_ok()
                && let Some([(id, data)]) = json::members(&object).as_deref()
                && data.starts_with('{')
                && let Some(id) = json::unescape(id)
            {
                let document = (id.into_owned(), json::compact(data));
                self.documents.push(document);
                return;
            }
        }
        // Where a line's end was lost, the next record is in it too.
        let starts = memchr::memmem::find_iter(text.as_bytes(), b"    \"").map(|at| at + 4);
        let starts = starts.filter(|at| !text.get(..at - 4).unwrap_or_default().ends_with(' '));
        let ids = std::iter::once(0).chain(starts).filter_map(|at| {
            let end = json::skip_value(text.as_bytes(), at)?;
            json::unescape(text.get(at..end)?).map(Into::into)
        });
        self.unreadable.push(Unreadable {
            range: start as u64..end as u64,
            reason: "the record is not valid JSON".to_owned(),
            ids: ids.collect(),
        });
    }
}

/// The first operation of a log that can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstLine {
    /// There is none.
    None,
    /// It has this number.
    Numbered(u64),
    /// It has no number: the reference wrote it.
    Unnumbered,
}

pub(crate) fn first_line(object: &dyn Object) -> Result<FirstLine> {
    let mut lines = Lines::new(object, 0);
    while let Some(line) = lines.next()? {
        if let Ok(op) = op_line::decode(line.bytes) {
            return Ok(op.seq.map_or(FirstLine::Unnumbered, FirstLine::Numbered));
        }
    }
    Ok(FirstLine::None)
}

/// The ids that lines of a log or a snapshot, damaged or not, seem to have.
pub(crate) fn ids_in(bytes: &[u8]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        const KEY: &[u8] = b"\"id\":";
        let Some(found) = memchr::memmem::find(line, KEY) else {
            continue;
        };
        let start = found + KEY.len();
        let id = json::skip_value(line, start)
            .and_then(|end| line.get(start..end))
            .and_then(|raw| std::str::from_utf8(raw).ok())
            .filter(|raw| raw.starts_with('"'))
            .and_then(json::unescape);
        if let Some(id) = id
            && !ids.iter().any(|known| **known == *id)
        {
            ids.push(id.into_owned());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with one bad sector.
    struct BadSector(Vec<u8>);

    impl Object for BadSector {
        fn size(&self) -> Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
            let start = usize::try_from(offset).unwrap();
            let end = (start + buffer.len()).min(self.0.len());
            if start < 2 * SECTOR && end > SECTOR {
                return Err(crate::Error::new(
                    crate::ErrorKind::Unavailable,
                    "bad sector",
                ));
            }
            buffer[..end - start].copy_from_slice(&self.0[start..end]);
            Ok(end - start)
        }
    }

    #[test]
    fn what_lies_around_a_bad_sector_is_read() {
        let mut content = vec![b'x'; 3 * SECTOR + 7];
        let object = Forbearing(Box::new(BadSector(content.clone())));
        let mut found = vec![b'?'; content.len() + 9];
        assert_eq!(object.read_at(0, &mut found).unwrap(), content.len());
        content[SECTOR..2 * SECTOR].fill(0);
        assert!(found[..content.len()] == content);
        assert_eq!(object.read_at(content.len() as u64, &mut found).unwrap(), 0);
    }

    #[test]
    fn ids_are_made_out_in_damaged_lines() {
        let lines = b"{\"ts\":\"x\",\"op\":\"set\",\"id\":\"a\\n\",\"prev\":nu\xffll\n{\"id\":\"b\",\"da\n\"id\":7\n\"id\":\"half\nnothing";
        assert_eq!(ids_in(lines), ["a\n", "b"]);
    }

    #[test]
    fn every_record_of_a_damaged_segment_is_read_or_told() {
        let documents = [("a", "{\"n\":1}"), ("b", "{\"n\":2}"), ("c", "{\"n\":3}")];
        let whole = crate::format::archive::encode(1, "old", "t", documents);
        let text = String::from_utf8(whole.clone()).unwrap();
        let at = |what: &str| text.find(what).unwrap();
        let left = |bytes: &[u8]| {
            let remains = damaged_segment(bytes);
            let unreadable = remains.unreadable.into_iter();
            let ids = unreadable.map(|part| part.ids.join(",")).collect();
            let documents = remains.documents.into_iter();
            (documents.map(|(id, _)| id).collect::<String>(), ids)
        };
        let changed = |range: Range<usize>| {
            let mut bytes = whole.clone();
            bytes[range].fill(b'?');
            left(&bytes)
        };
        let told =
            |ids: &[&str]| -> Vec<String> { ids.iter().map(|id| (*id).to_owned()).collect() };
        // The line that begins a record, whole and in part.
        let b = at("    \"b\"");
        assert_eq!(changed(b..b + 10), ("ac".to_owned(), told(&[""])));
        assert_eq!(changed(b + 4..b + 5), ("ac".to_owned(), told(&[""])));
        // The newline before it.
        assert_eq!(changed(b - 1..b), ("c".to_owned(), told(&["a,b"])));
        // A value.
        let value = at("2");
        assert_eq!(changed(value..value + 1), ("ac".to_owned(), told(&["b"])));
        // The end, cut off between two records.
        assert_eq!(left(&whole[..b]), ("a".to_owned(), told(&[""])));
    }
}

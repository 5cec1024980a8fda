//! One line of a snapshot, cut into id and document, in the buffer that it was read into.

use std::ops::Range;

use arcstr::{ArcStr, Substr};

use crate::document::Stored;
use crate::format::{json, snapshot};

/// The checksum of a file up to the end of a line, from that of what comes before the line.
pub(super) fn checksum_with(crc: u32, bytes: &[u8], terminated: bool) -> u32 {
    let crc = crc32c::crc32c_append(crc, bytes);
    if terminated {
        crc32c::crc32c_append(crc, b"\n")
    } else {
        crc
    }
}

#[derive(Clone)]
pub(super) struct Line {
    id: Substr,
    data: (u32, u32),
}

impl Line {
    /// Cuts up a line without its newline. `ours` says that opslog wrote it, so that its layout is known.
    pub(super) fn parse(bytes: &[u8], ours: bool) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        if ours
            && let Some(ranges) = snapshot::decode_line_trusted(text)
            && !ranges.escaped
        {
            return Self::cut(text, ranges.id, ranges.data);
        }
        let (id, data) = snapshot::decode_line(text)?;
        let middle = id.len();
        let text = id.into_owned() + &json::compact(data);
        Self::cut(&text, 0..middle, middle..text.len())
    }

    fn cut(text: &str, id: Range<usize>, data: Range<usize>) -> Result<Self, String> {
        let place = |offset: usize| {
            u32::try_from(offset).map_err(|_| "the line is longer than 4 GiB".to_owned())
        };
        Ok(Self {
            data: (place(data.start)?, place(data.end)?),
            id: ArcStr::from(text).substr(id),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> usize {
        self.id.parent().len()
    }

    pub(super) fn into_document<T>(self) -> Stored<T> {
        let data = self.data.0 as usize..self.data.1 as usize;
        Stored::shared(self.id.parent(), self.id.range(), data)
    }
}

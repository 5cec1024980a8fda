//! The lines of a file, in pieces: constant memory, whatever the file's size.

use crate::Result;
use crate::backend::Object;

const PIECE: usize = 1 << 20;
/// Most logs are short, and a megabyte of zeros costs more than reading them.
const FIRST_PIECE: usize = 16 << 10;
/// So many blank lines one after the other are padding.
const PADDING: usize = 4 << 10;

/// Reads lines one after the other from `position` on.
pub(crate) struct Lines<'o> {
    object: &'o dyn Object,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    filled: usize,
    /// Offset in the file of `buffer[0]`.
    base: u64,
    at_end: bool,
    /// Whether padding ends the lines as the end of the file does.
    until_padding: bool,
}

/// A line and where it is.
pub(crate) struct Line<'a> {
    /// Without its newline.
    pub(crate) bytes: &'a [u8],
    pub(crate) offset: u64,
    /// Whether it ends with a newline: only the last line of a file may not.
    pub(crate) terminated: bool,
}

impl Line<'_> {
    /// The offset behind the line and its newline.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64 + u64::from(self.terminated)
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.bytes
            .iter()
            .all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
    }
}

impl<'o> Lines<'o> {
    pub(crate) fn new(object: &'o dyn Object, position: u64) -> Self {
        Self {
            object,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            base: position,
            at_end: false,
            until_padding: false,
        }
    }

    /// As `new`, for a file that has nothing behind its first padding.
    pub(crate) fn until_padding(object: &'o dyn Object, position: u64) -> Self {
        Self {
            until_padding: true,
            ..Self::new(object, position)
        }
    }

    /// Goes on at `position`.
    pub(crate) fn go_to(&mut self, position: u64) {
        let until_padding = self.until_padding;
        *self = Self {
            until_padding,
            ..Self::new(self.object, position)
        };
    }

    /// The next line that is not empty; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>> {
        let mut searched = self.start;
        loop {
            if searched == self.start {
                // The padding of a log is one long run of newlines: passed over at once, not line by line.
                let unread = self.buffer.get(self.start..self.filled).unwrap_or_default();
                let blank = unread.iter().take_while(|byte| **byte == b'\n').count();
                self.start += blank;
                searched = self.start;
                if self.until_padding && blank >= PADDING {
                    return Ok(None);
                }
            }
            let unsearched = self.buffer.get(searched..self.filled).unwrap_or_default();
            if let Some(found) = memchr::memchr(b'\n', unsearched) {
                let end = searched + found;
                return Ok(Some(self.take(end, true)));
            }
            searched = self.filled;
            if self.at_end {
                break;
            }
            searched -= self.read_on()?;
        }
        if self.start == self.filled {
            return Ok(None);
        }
        let end = self.filled;
        Ok(Some(self.take(end, false)))
    }

    fn take(&mut self, end: usize, terminated: bool) -> Line<'_> {
        let start = self.start;
        self.start = end + usize::from(terminated);
        Line {
            bytes: self.buffer.get(start..end).unwrap_or_default(),
            offset: self.base + start as u64,
            terminated,
        }
    }

    /// Reads another piece behind what is there; returns by how much the present content moved to the front.
    fn read_on(&mut self) -> Result<usize> {
        let moved = self.start;
        let was_full = self.filled == self.buffer.len();
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= moved;
        self.start = 0;
        self.base += moved as u64;
        if self.buffer.is_empty() {
            self.buffer = vec![0; FIRST_PIECE];
        } else if was_full && self.buffer.len() - self.filled < PIECE / 2 {
            // A line longer than the buffer doubles it; else this happens a few times.
            self.buffer.resize(
                (self.buffer.len() * 2).max(PIECE.min(self.buffer.len() * 4)),
                0,
            );
        }
        let free = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = self.object.read_at(self.base + self.filled as u64, free)?;
        self.filled += read;
        self.at_end = read == 0;
        Ok(moved)
    }
}

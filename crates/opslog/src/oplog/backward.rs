//! The lines of a log from the newest back: what `undo` needs, at a cost that does not depend on the log's length.

use crate::Result;
use crate::backend::Object;

const PIECE: u64 = 64 << 10;

/// Hands out the lines of `object` that lie before `end`, last first, blank ones left out.
pub(crate) struct Backward<'o> {
    object: &'o dyn Object,
    /// Bytes `[base, base + buffer.len())` of the file, from which lines are still to be taken.
    buffer: Vec<u8>,
    base: u64,
}

impl<'o> Backward<'o> {
    pub(crate) fn new(object: &'o dyn Object, end: u64) -> Self {
        Self {
            object,
            buffer: Vec::new(),
            base: end,
        }
    }

    /// The line before the ones handed out so far, and its offset.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            while matches!(self.buffer.last(), Some(b'\n' | b' ' | b'\r' | b'\t')) {
                self.buffer.pop();
            }
            if let Some(newline) = memchr::memrchr(b'\n', &self.buffer) {
                let line = self.buffer.split_off(newline + 1);
                return Ok(Some((self.base + newline as u64 + 1, line)));
            }
            if self.base == 0 {
                let line = std::mem::take(&mut self.buffer);
                return Ok((!line.is_empty()).then_some((0, line)));
            }
            self.read_back()?;
        }
    }

    fn read_back(&mut self) -> Result<()> {
        // A long line doubles the piece, so that the work stays linear in its length.
        let length = PIECE.max(self.buffer.len() as u64).min(self.base);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let from = self.base - length;
        let mut filled = 0;
        while filled < piece.len() {
            let free = piece.get_mut(filled..).unwrap_or_default();
            let read = self.object.read_at(from + filled as u64, free)?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        piece.append(&mut self.buffer);
        self.buffer = piece;
        self.base = from;
        Ok(())
    }
}

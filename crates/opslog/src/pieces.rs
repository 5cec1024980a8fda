//! A large file of lines, cut into pieces that several threads read at once. The lines of a piece are those that begin in it.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use crate::Result;
use crate::backend::Object;

/// Bytes in a piece.
pub(crate) const PIECE: u64 = 1 << 20;
/// A file smaller than this is read without other threads.
pub(crate) const ALONE_BELOW: u64 = 4 << 20;
/// The most threads that read; more would wait for the one that enters what they read.
const READERS: usize = 4;

pub(crate) struct Pieces<'a> {
    object: &'a dyn Object,
    /// Of the file, when it was opened: what is appended later belongs to nobody.
    size: u64,
    piece_bytes: u64,
}

/// One piece, in a buffer of its reader's.
pub(crate) struct Piece {
    /// Where in the file the buffer begins.
    pub(crate) base: u64,
    /// The bytes of the buffer that belong to this piece and to no other.
    pub(crate) own: Range<usize>,
    /// The lines that begin in the piece, the last one whole: from a line's beginning to the end of the buffer.
    pub(crate) lines: Range<usize>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(object: &'a dyn Object) -> Result<Self> {
        Self::of_size(object, PIECE)
    }

    pub(crate) fn of_size(object: &'a dyn Object, piece_bytes: u64) -> Result<Self> {
        Ok(Self {
            object,
            size: object.size()?,
            piece_bytes,
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.size.div_ceil(self.piece_bytes)
    }

    /// Reads one piece; `buffer` is reused, since the system fills memory that is in the processor's cache several times as fast as fresh memory.
    pub(crate) fn read(&self, number: u64, buffer: &mut Vec<u8>) -> Result<Piece> {
        let start = number * self.piece_bytes;
        let end = (start + self.piece_bytes).min(self.size);
        // Whether a line begins at the piece's start is said by the byte before.
        let base = start.saturating_sub(1);
        self.read_to(end, base, 0, buffer)?;
        let own = usize::from(start > base).min(buffer.len())..buffer.len();
        let first = match start {
            0 => Some(0),
            _ => memchr::memchr(b'\n', buffer).map(|newline| newline + 1),
        };
        let lines = match first {
            Some(first) if first < buffer.len() => {
                self.read_last_line(base, buffer)?;
                first..buffer.len()
            }
            _ => 0..0,
        };
        Ok(Piece { base, own, lines })
    }

    /// Hands what `read` makes of each piece to `enter`, in the order of the file, until one of them fails or `enter` wants no more. Of a large file several
    /// threads read, each with a buffer of its own.
    pub(crate) fn each<P: Send>(
        &self,
        read: impl Fn(u64, &mut Vec<u8>) -> Result<P> + Sync,
        mut enter: impl FnMut(P) -> Result<bool>,
    ) -> Result<()> {
        if self.size < ALONE_BELOW {
            let mut buffer = Vec::new();
            for number in 0..self.count() {
                if !enter(read(number, &mut buffer)?)? {
                    break;
                }
            }
            return Ok(());
        }
        let readers = thread::available_parallelism().map_or(1, |cores| cores.get().min(READERS));
        thread::scope(|scope| {
            // Each reader has a channel of its own, and every so-manieth piece: so they are received in their order.
            let receivers: Vec<_> = (0..readers)
                .map(|first| {
                    let (sender, receiver) = mpsc::sync_channel(2);
                    let read = &read;
                    scope.spawn(move || {
                        let mut buffer = Vec::new();
                        for number in (0..self.count()).skip(first).step_by(readers) {
                            // Nobody receives any more when an earlier piece was the last that was wanted.
                            if sender.send(read(number, &mut buffer)).is_err() {
                                break;
                            }
                        }
                    });
                    receiver
                })
                .collect();
            for receiver in receivers.iter().cycle() {
                let Ok(piece) = receiver.recv() else {
                    break;
                };
                if !enter(piece?)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Reads on until the last line in `buffer`, whose first byte is at `base`, is whole.
    fn read_last_line(&self, base: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let mut more = 4096;
        let mut searched = buffer.len().saturating_sub(1);
        loop {
            let unsearched = buffer.get(searched..).unwrap_or_default();
            if let Some(newline) = memchr::memchr(b'\n', unsearched) {
                buffer.truncate(searched + newline + 1);
                return Ok(());
            }
            searched = buffer.len();
            let end = (base + searched as u64 + more).min(self.size);
            self.read_to(end, base, searched, buffer)?;
            if buffer.len() == searched {
                return Ok(());
            }
            more *= 2;
        }
    }

    /// Keeps `kept` bytes of `buffer`, whose first byte is at `base`, and reads the rest up to `end`, or to the end of the file.
    fn read_to(&self, end: u64, base: u64, kept: usize, buffer: &mut Vec<u8>) -> Result<()> {
        let length = usize::try_from(end - base).unwrap_or(usize::MAX);
        buffer.resize(length, 0);
        let filled = fill(self.object, base + kept as u64, buffer, kept)?;
        buffer.truncate(filled);
        Ok(())
    }
}

/// Reads into `buffer` from `filled` on until it is full or the object ends; returns up to where it is filled.
pub(crate) fn fill(
    object: &dyn Object,
    position: u64,
    buffer: &mut [u8],
    filled: usize,
) -> Result<usize> {
    let mut end = filled;
    while let Some(free) = buffer.get_mut(end..)
        && !free.is_empty()
    {
        let read = object.read_at(position + (end - filled) as u64, free)?;
        if read == 0 {
            break;
        }
        end += read;
    }
    Ok(end)
}

//! The index of a snapshot (`docs/format.md` §3a) to and from bytes: blocks of entries sorted by hash, a fence, a footer.
//!
//! Pure, as all of `format`. Invariant: what a decoder returns passed its checksum, so a damaged part is never taken for another answer.
//! `base` writes, reads and rebuilds the files.

use crate::format::manifest::FileFacts;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Entries of a block; only the last block of a run has fewer.
pub(crate) const BLOCK_ENTRIES: usize = 170;
/// Blocks of a run; only the last run has fewer. A run is sorted in memory, so this bounds what writing an index takes.
pub(crate) const RUN_BLOCKS: usize = 6168;
/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 56;

const ENTRY_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"opslogix";
const VERSION: u32 = 1;

/// Where the line of one document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// [`hash`] of the id.
    pub(crate) hash: u64,
    /// Offset of the line in the snapshot.
    pub(crate) offset: u64,
    /// Bytes of the line without its newline.
    pub(crate) length: u32,
    /// Checksum of those bytes.
    pub(crate) crc: u32,
}

/// What an index is of, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) snapshot_bytes: u64,
    pub(crate) snapshot_crc: u32,
    pub(crate) documents: u64,
    /// Offset of the first document's line in the snapshot.
    pub(crate) first: u64,
    pub(crate) blocks: u64,
    pub(crate) fence_crc: u32,
}

impl Footer {
    /// The size of the index file; `None` when it is beyond all bounds.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let blocks = self.blocks.checked_mul(BLOCK_BYTES as u64 + 8)?;
        blocks.checked_add(FOOTER_BYTES as u64)
    }

    /// The snapshot that the index is of.
    pub(crate) fn snapshot(&self) -> FileFacts {
        FileFacts {
            bytes: self.snapshot_bytes,
            crc: self.snapshot_crc,
            documents: self.documents,
        }
    }

    /// Where the fence begins.
    pub(crate) fn fence_start(&self) -> u64 {
        self.blocks.saturating_mul(BLOCK_BYTES as u64)
    }
}

/// The hash of an id: XXH3, 64 bits, without a seed. Its values are part of the format.
pub(crate) fn hash(id: &str) -> u64 {
    twox_hash::XxHash3_64::oneshot(id.as_bytes())
}

/// Appends block `number`, with at most [`BLOCK_ENTRIES`] entries, sorted.
pub(crate) fn encode_block(out: &mut Vec<u8>, number: u64, entries: &[Entry]) {
    debug_assert!(entries.len() <= BLOCK_ENTRIES);
    let start = out.len();
    let mut count = 0_u32;
    for entry in entries.iter().take(BLOCK_ENTRIES) {
        out.extend(entry.hash.to_le_bytes());
        out.extend(entry.offset.to_le_bytes());
        out.extend(entry.length.to_le_bytes());
        out.extend(entry.crc.to_le_bytes());
        count += 1;
    }
    out.resize(start + BLOCK_ENTRIES * ENTRY_BYTES, 0);
    out.extend(count.to_le_bytes());
    out.extend(number.to_le_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

/// The entries of block `number`; `None` when it is damaged, or another block.
pub(crate) fn decode_block(bytes: &[u8], number: u64) -> Option<impl Iterator<Item = Entry>> {
    let body = checked(bytes)?;
    let (entries, rest) = body.split_at_checked(BLOCK_ENTRIES * ENTRY_BYTES)?;
    let mut rest = Fields(rest);
    let count = usize::try_from(rest.u32()?).ok()?;
    if rest.u64()? != number || !rest.0.is_empty() || count > BLOCK_ENTRIES {
        return None;
    }
    let entries = entries.chunks_exact(ENTRY_BYTES).take(count);
    Some(entries.filter_map(|bytes| {
        let mut fields = Fields(bytes);
        Some(Entry {
            hash: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
            crc: fields.u32()?,
        })
    }))
}

/// Appends the fence: the first hash of each block.
pub(crate) fn encode_fence(out: &mut Vec<u8>, fence: &[u64]) {
    out.extend(fence.iter().flat_map(|hash| hash.to_le_bytes()));
}

/// Reads the fence; `None` when it is not the one that `footer` belongs to.
pub(crate) fn decode_fence(bytes: &[u8], footer: &Footer) -> Option<Vec<u64>> {
    if crc32c::crc32c(bytes) != footer.fence_crc {
        return None;
    }
    bytes
        .chunks(8)
        .map(|bytes| Fields(bytes).u64())
        .collect::<Option<Vec<u64>>>()
}

/// Appends the footer.
pub(crate) fn encode_footer(out: &mut Vec<u8>, footer: &Footer) {
    let start = out.len();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(footer.snapshot_crc.to_le_bytes());
    out.extend(footer.snapshot_bytes.to_le_bytes());
    out.extend(footer.documents.to_le_bytes());
    out.extend(footer.first.to_le_bytes());
    out.extend(footer.blocks.to_le_bytes());
    out.extend(footer.fence_crc.to_le_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

/// Reads the footer; `None` when it is damaged, of another version, or none.
pub(crate) fn decode_footer(bytes: &[u8]) -> Option<Footer> {
    let mut fields = Fields(checked(bytes)?);
    if fields.take::<8>()? != MAGIC || fields.u32()? != VERSION {
        return None;
    }
    let footer = Footer {
        snapshot_crc: fields.u32()?,
        snapshot_bytes: fields.u64()?,
        documents: fields.u64()?,
        first: fields.u64()?,
        blocks: fields.u64()?,
        fence_crc: fields.u32()?,
    };
    fields.0.is_empty().then_some(footer)
}

/// What comes before the checksum in the last four bytes, if that holds.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

/// Bytes that are taken apart from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u64) -> Vec<Entry> {
        let entry = |n: u64| Entry {
            hash: n * 3,
            offset: n * 200,
            length: 199,
            crc: 7,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the reference implementation of XXH3 (`xxhsum -H3`).
        assert_eq!(hash(""), 0x2d06_8005_38d3_94c2);
    }

    #[test]
    fn a_block_reads_back_and_any_flipped_bit_is_noticed() {
        for count in [0, 1, 170] {
            let mut block = Vec::new();
            encode_block(&mut block, 5, &entries(count));
            assert_eq!(block.len(), BLOCK_BYTES);
            let read: Vec<Entry> = decode_block(&block, 5).unwrap().collect();
            assert_eq!(read, entries(count));
            assert!(decode_block(&block, 6).is_none());
            for position in (0..BLOCK_BYTES).step_by(61) {
                let mut flipped = block.clone();
                flipped[position] ^= 4;
                assert!(decode_block(&flipped, 5).is_none(), "{position}");
            }
        }
    }

    #[test]
    fn a_footer_reads_back_and_any_flipped_bit_is_noticed() {
        let footer = Footer {
            snapshot_bytes: 1,
            snapshot_crc: 2,
            documents: 3,
            first: 4,
            blocks: 5,
            fence_crc: crc32c::crc32c(&[1, 0, 0, 0, 0, 0, 0, 0]),
        };
        let mut bytes = Vec::new();
        encode_footer(&mut bytes, &footer);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(decode_footer(&bytes), Some(footer));
        for position in 0..FOOTER_BYTES {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            assert_eq!(decode_footer(&flipped), None);
            assert_eq!(decode_footer(&bytes[..position]), None);
        }
        let mut fence = Vec::new();
        encode_fence(&mut fence, &[1]);
        assert_eq!(decode_fence(&fence, &footer), Some(vec![1]));
        assert_eq!(decode_fence(&fence[1..], &footer), None);
    }
}

//! An index, open: its fence is in memory, its blocks are read when asked for.

use crate::backend::Object;
use crate::format::index::{
    BLOCK_BYTES, Entry, FOOTER_BYTES, Footer, RUN_BLOCKS, decode_block, decode_fence, decode_footer,
};
use crate::format::manifest::FileFacts;
use crate::{Error, Result};

pub(super) struct Index {
    object: Box<dyn Object>,
    name: String,
    footer: Footer,
    /// The first hash of each block.
    fence: Vec<u64>,
}

impl Index {
    /// Reads the end of the file.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is damaged, or not the index of the snapshot with `facts`.
    pub(super) fn open(object: Box<dyn Object>, name: &str, facts: &FileFacts) -> Result<Self> {
        let flaw = |reason: &str| Error::corrupt(format!("the index {reason}")).at_path(name);
        let size = object.size()?;
        let start = size
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| flaw("is too short"))?;
        let mut bytes = [0; FOOTER_BYTES];
        object.read_at(start, &mut bytes)?;
        let footer = decode_footer(&bytes).ok_or_else(|| flaw("has a damaged end"))?;
        if footer.snapshot() != *facts {
            return Err(flaw("is of another snapshot"));
        }
        if footer.file_bytes() != Some(size) {
            return Err(flaw("has lost a part"));
        }
        let length = start - footer.fence_start();
        let length = usize::try_from(length).map_err(|_| flaw("is too large for this machine"))?;
        let mut fence = vec![0; length];
        object.read_at(footer.fence_start(), &mut fence)?;
        let fence = decode_fence(&fence, &footer).ok_or_else(|| flaw("has a damaged fence"))?;
        Ok(Self {
            object,
            name: name.to_owned(),
            footer,
            fence,
        })
    }

    /// Number of documents.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.footer.documents).unwrap_or(usize::MAX)
    }

    /// What the snapshot was when the index was made.
    pub(super) fn snapshot(&self) -> FileFacts {
        self.footer.snapshot()
    }

    /// The entries with `hash`: in each run, those of the block before the first one that begins with `hash` or more, and on from there.
    pub(super) fn find(&self, hash: u64) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for (run, fence) in (0_u64..).zip(self.fence.chunks(RUN_BLOCKS)) {
            let before = fence.partition_point(|first| *first < hash);
            let begin = before.saturating_sub(1);
            for (block, first) in (0_u64..).zip(fence).skip(begin) {
                if *first > hash {
                    break;
                }
                self.find_in_block(run * RUN_BLOCKS as u64 + block, hash, &mut found)?;
            }
        }
        Ok(found)
    }

    fn find_in_block(&self, number: u64, hash: u64, found: &mut Vec<Entry>) -> Result<()> {
        let mut bytes = [0; BLOCK_BYTES];
        let entries = self.read_block(number, &mut bytes)?;
        found.extend(entries.filter(|entry| entry.hash == hash));
        Ok(())
    }

    fn read_block<'a>(
        &self,
        number: u64,
        bytes: &'a mut [u8; BLOCK_BYTES],
    ) -> Result<impl Iterator<Item = Entry> + use<'a>> {
        let offset = number * BLOCK_BYTES as u64;
        self.object.read_at(offset, bytes)?;
        decode_block(bytes, number).ok_or_else(|| {
            Error::corrupt("a block of the index is damaged")
                .at_path(&self.name)
                .at_offset(offset)
        })
    }

    /// Reads every block.
    ///
    /// # Errors
    ///
    /// `Corrupt` when one is damaged.
    pub(super) fn check_blocks(&self) -> Result<()> {
        let mut bytes = [0; BLOCK_BYTES];
        (0..self.footer.blocks).try_for_each(|number| self.read_block(number, &mut bytes).map(drop))
    }
}

//! A file being written under a temporary name until it is finished.
//!
//! Invariant: the name appears with the whole content, by a `link` that fails if the name is taken, or not at all.

use std::io;
use std::path::PathBuf;

use super::{Directory, already_exists, parent};
use crate::backend::ObjectWriter;
use crate::backend::file_system::{File, OpenMode, write_all_at};
use crate::{Error, Result};

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) struct FsObjectWriter {
    directory: Directory,
    file: Box<dyn File>,
    temporary: PathBuf,
    path: PathBuf,
    written: u64,
    buffer: Vec<u8>,
    temporary_exists: bool,
}

impl FsObjectWriter {
    pub(super) fn new(
        directory: Directory,
        file: Box<dyn File>,
        temporary: PathBuf,
        path: PathBuf,
    ) -> Self {
        Self {
            directory,
            file,
            temporary,
            path,
            written: 0,
            buffer: Vec::new(),
            temporary_exists: true,
        }
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<()> {
        write_all_at(&*self.file, self.written, bytes)
            .map_err(|error| Error::io("write", &self.path, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let answer = self.write_through(&buffer);
        self.buffer = buffer;
        if answer.is_ok() {
            self.buffer.clear();
        }
        answer
    }

    /// Gives the finished file its name, exclusively.
    fn publish(&self) -> io::Result<()> {
        let file_system = &self.directory.file_system;
        match file_system.hard_link(&self.temporary, &self.path) {
            Err(error) if is_unsupported(&error) => {
                // A file system without links. The empty file claims the name; nothing refers to it before the call returns.
                file_system.open(&self.path, OpenMode::CreateNew)?;
                file_system.rename(&self.temporary, &self.path)
            }
            answer => answer,
        }
    }
}

/// How file systems without hard links refuse them.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}

impl ObjectWriter for FsObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            return self.write_through(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        self.directory
            .sync_file(&*self.file)
            .map_err(|error| Error::io("sync", &self.path, error))?;
        self.publish().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(&self.path),
            _ => Error::io("create", &self.path, error),
        })?;
        // The temporary name must go before the sync of the folder, so that it does not come back after a crash.
        let removed = self.directory.file_system.remove(&self.temporary);
        self.temporary_exists = removed.is_err();
        let synced = self.directory.sync_folder(parent(&self.path));
        if synced.is_err() {
            self.directory.discard(&self.path);
        }
        synced
    }
}

impl Drop for FsObjectWriter {
    fn drop(&mut self) {
        if self.temporary_exists {
            self.directory.discard(&self.temporary);
        }
    }
}

//! The file-system calls of a simulated disk.
//!
//! Each begins with `begin`, which counts it and lets it fail when that is planned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::NodeId;
use super::{CallKind, EIO, Fault, LockKind, SimulatedDisk, State};
use crate::backend::file_system::{DirectoryEntry, File, FileLock, FileSystem, OpenMode};

impl SimulatedDisk {
    fn guard(&self, node: NodeId, number: u64) -> Box<dyn FileLock> {
        let disk = self.clone();
        Box::new(SimulatedLock { disk, node, number })
    }
}

impl FileSystem for SimulatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::CreateDir, path)?;
        state.disk.create_folder(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        let (state, _) = self.begin(CallKind::IsDir, path)?;
        match state.disk.find(path) {
            Ok(node) => Ok(state.disk.is_folder(node)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let kind = match mode {
            OpenMode::Read | OpenMode::ReadWrite => CallKind::Open,
            OpenMode::CreateNew => CallKind::Create,
        };
        let (mut state, _) = self.begin(kind, path)?;
        let now = state.clock;
        let node = match mode {
            OpenMode::CreateNew => state.disk.create_file(path, now)?,
            OpenMode::Read | OpenMode::ReadWrite => state.disk.find(path)?,
        };
        state.disk.file(node)?;
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            node,
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::Rename, to)?;
        state.disk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::HardLink, to)?;
        state.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::Remove, path)?;
        state.disk.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::RemoveDir, path)?;
        state.disk.remove_folder(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.begin(CallKind::SyncDir, path)?;
        let node = state.disk.find(path)?;
        state.disk.sync_folder(node)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let (state, _) = self.begin(CallKind::List, path)?;
        let entries = state.disk.entries(state.disk.find(path)?)?;
        let entries = entries
            .into_iter()
            .map(|(name, is_dir, size)| DirectoryEntry {
                name: name.as_ref().to_owned(),
                is_dir,
                size: size as u64,
            });
        Ok(entries.collect())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let (mut state, _) = self.begin(CallKind::Lock, path)?;
        let taken = state.take_lock(path, self.process_id, LockKind::Exclusive)?;
        Ok(taken.map(|(node, number)| self.guard(node, number)))
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let (mut state, _) = self.begin(CallKind::Lock, path)?;
        let taken = state.take_lock(path, self.process_id, LockKind::Shared)?;
        Ok(taken.map(|(node, number)| self.guard(node, number)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let (mut state, _) = self.begin(CallKind::Lock, path)?;
        loop {
            if state.crashed || !state.alive.contains(&self.process_id) {
                return Err(io::Error::other("the simulated disk has crashed"));
            }
            let kind = LockKind::Exclusive;
            if let Some((node, number)) = state.take_lock(path, self.process_id, kind)? {
                return Ok(self.guard(node, number));
            }
            state = self
                .shared
                .unlocked
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn process_is_alive(&self, process_id: u32) -> bool {
        self.state().alive.contains(&process_id)
    }

    fn process_id(&self) -> u32 {
        self.process_id
    }

    fn pause(&self, duration: Duration) {
        self.advance(duration);
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    node: NodeId,
    path: PathBuf,
}

impl File for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (state, _) = self.disk.begin(CallKind::Read, &self.path)?;
        let live = state.disk.file(self.node)?.live();
        let Some(rest) = index(offset).ok().and_then(|offset| live.get(offset..)) else {
            return Ok(0);
        };
        let count = rest.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(rest) {
            *place = *byte;
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let (mut state, fault) = self.disk.begin(CallKind::Write, &self.path)?;
        let count = match fault {
            Some(Fault::ShortWrite(count)) => count.min(bytes.len()),
            _ => bytes.len(),
        };
        let now = state.clock;
        let content = state.disk.file_mut(self.node)?;
        if let Some(bytes) = bytes.get(..count).filter(|bytes| !bytes.is_empty()) {
            content.write(index(offset)?, bytes);
        }
        content.written = now;
        Ok(count)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (mut state, _) = self.disk.begin(CallKind::SetLength, &self.path)?;
        let now = state.clock;
        let content = state.disk.file_mut(self.node)?;
        content.set_length(index(length)?);
        content.written = now;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let (state, _) = self.disk.begin(CallKind::Length, &self.path)?;
        Ok(state.disk.file(self.node)?.live().len() as u64)
    }

    fn age(&self) -> io::Result<Duration> {
        let (state, _) = self.disk.begin(CallKind::Age, &self.path)?;
        let written = state.disk.file(self.node)?.written;
        Ok(state.clock.saturating_sub(written))
    }

    fn sync_data(&self) -> io::Result<()> {
        let call = self.disk.begin(CallKind::SyncData, &self.path)?;
        self.sync(call)
    }

    fn sync_all(&self) -> io::Result<()> {
        let call = self.disk.begin(CallKind::SyncAll, &self.path)?;
        self.sync(call)
    }
}

impl SimulatedFile {
    fn sync(&self, (mut state, fault): (MutexGuard<'_, State>, Option<Fault>)) -> io::Result<()> {
        let content = state.disk.file_mut(self.node)?;
        if fault == Some(Fault::SyncFailure) {
            content.fail_sync();
            return Err(io::Error::from_raw_os_error(EIO));
        }
        content.sync();
        Ok(())
    }
}

struct SimulatedLock {
    disk: SimulatedDisk,
    node: NodeId,
    number: u64,
}

impl FileLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Some(holdings) = state.locks.get_mut(&self.node) {
            holdings.retain(|holding| holding.number != self.number);
        }
        drop(state);
        self.disk.shared.unlocked.notify_all();
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

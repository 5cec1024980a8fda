//! Blobs: files of any content that a user keeps beside the documents.
//!
//! Invariant: no blob call reads, lists or changes a file of the store itself, or leaves its directory: every path is judged
//! by `paths`. Works on any [`Backend`].

use crate::backend::Backend;
use crate::{Error, Result, paths};

/// Blob calls, for every backend.
///
/// A path is relative, with `/` between its parts, and names none of the store's own files.
///
/// ```
/// use opslog::Blobs;
/// use opslog::backend::MemoryBackend;
/// let backend = MemoryBackend::new();
/// backend.write_blob("images/cat.png", b"meow")?;
/// assert_eq!(backend.read_blob_range("images/cat.png", 1, 2)?, b"eo");
/// assert_eq!(backend.list_blobs("images")?, ["cat.png"]);
/// assert_eq!(backend.list_blobs("")?, ["images"]);
/// assert!(backend.write_blob("manifest.json", b"").is_err());
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait Blobs {
    /// Writes a blob, replacing what is there. Once it has returned, the blob survives a crash; a crash before leaves the old
    /// blob or the new one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is not allowed; `Unavailable` if the storage refuses.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// assert!(backend.write_blob("manifest.json", b"no").is_err());
    /// assert!(backend.write_blob("../outside", b"no").is_err());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn write_blob(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// The whole content of a blob.
    ///
    /// # Errors
    ///
    /// `NotFound`, and as for `write_blob`.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// assert_eq!(backend.read_blob("notes/a.txt")?, b"hello");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read_blob(&self, path: &str) -> Result<Vec<u8>>;

    /// `length` bytes of a blob from `offset` on: fewer, or none, where it ends before.
    ///
    /// # Errors
    ///
    /// `NotFound`, and as for `write_blob`.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// assert_eq!(backend.read_blob_range("notes/a.txt", 3, 100)?, b"lo");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read_blob_range(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// The names, sorted, of the blobs and directories directly inside the directory `prefix` (`""` for the store's own); none if there is
    /// no such directory.
    ///
    /// # Errors
    ///
    /// As for `write_blob`.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// assert_eq!(backend.list_blobs("notes")?, ["a.txt"]);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn list_blobs(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes a blob.
    ///
    /// # Errors
    ///
    /// `NotFound`, and as for `write_blob`.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// backend.delete_blob("notes/a.txt")?;
    /// assert!(backend.delete_blob("notes/a.txt").unwrap_err().is_not_found());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn delete_blob(&self, path: &str) -> Result<()>;

    /// Removes all blobs inside the directory `prefix`, however deep. A directory that does not exist is a success. When it
    /// fails, some may be removed.
    ///
    /// # Errors
    ///
    /// As for `write_blob`.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// backend.write_blob("notes/a.txt", b"hello")?;
    /// backend.delete_blob_dir("notes")?;
    /// assert!(backend.list_blobs("notes")?.is_empty());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn delete_blob_dir(&self, prefix: &str) -> Result<()>;
}

impl<B: Backend + ?Sized> Blobs for B {
    fn write_blob(&self, path: &str, bytes: &[u8]) -> Result<()> {
        paths::validate_blob(path)?;
        self.put(path, bytes)
    }

    fn read_blob(&self, path: &str) -> Result<Vec<u8>> {
        paths::validate_blob(path)?;
        self.read(path).map_err(|error| missing(error, path))
    }

    fn read_blob_range(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        paths::validate_blob(path)?;
        let object = self.open(path).map_err(|error| missing(error, path))?;
        // Not more is set aside than there is, however much is asked for.
        let rest = object.size()?.saturating_sub(offset);
        let length = usize::try_from(rest).map_or(length, |rest| rest.min(length));
        let mut bytes = vec![0; length];
        let count = object.read_at(offset, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn list_blobs(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = folder(prefix)?;
        let objects = self.list(&folder)?;
        let mut names: Vec<String> = objects
            .iter()
            .filter(|object| !paths::is_own(&object.name))
            .filter_map(|object| object.name.strip_prefix(&folder)?.split('/').next())
            .map(ToOwned::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn delete_blob(&self, path: &str) -> Result<()> {
        paths::validate_blob(path)?;
        self.read_at(path, 0, &mut [])
            .map_err(|error| missing(error, path))?;
        self.delete(path)
    }

    fn delete_blob_dir(&self, prefix: &str) -> Result<()> {
        paths::validate_blob(prefix.strip_suffix('/').unwrap_or(prefix))?;
        for object in self.list(&folder(prefix)?)? {
            self.delete(&object.name)?;
        }
        Ok(())
    }
}

/// The directory with its `/`, or nothing for the store's own.
fn folder(prefix: &str) -> Result<String> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() || prefix == "." {
        return Ok(String::new());
    }
    paths::validate_blob(prefix)?;
    Ok(format!("{prefix}/"))
}

fn missing(error: Error, path: &str) -> Error {
    if error.is_not_found() {
        return Error::not_found(format!("blob '{path}' not found")).caused_by(error);
    }
    error
}

#[cfg(test)]
mod tests;

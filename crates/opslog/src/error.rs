//! The one error type: what the caller should do (`kind`), where, and why.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
///
/// ```
/// fn first(store: &opslog::Store) -> opslog::Result<Option<String>> {
///     Ok(store.entries()?.into_iter().next().map(|(id, _)| id))
/// }
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// assert_eq!(first(&store)?, None);
/// # Ok::<(), opslog::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, sorted by what the caller should do about it.
///
/// ```
/// use opslog::{ErrorKind, Store};
/// let store: Store = Store::in_memory()?;
/// match store.delete("a").unwrap_err().kind() {
///     ErrorKind::NotFound => {}
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The argument cannot be accepted as it is: mend it.
    InvalidInput,
    /// The document, archive segment, blob or store does not exist.
    NotFound,
    /// Somebody else changed what this call relied on: read again and decide.
    Conflict,
    /// Another live process (or another handle of this one) has the store open for writing.
    Locked,
    /// The store was opened read-only.
    ReadOnly,
    /// The store was closed.
    Closed,
    /// The storage refused (full disk, no permission, input/output error): nothing was changed; try again when that is mended.
    Unavailable,
    /// Bytes on storage are not what was written there.
    Corrupt,
    /// The store was written by a newer version, of the format or of the application.
    UnsupportedVersion,
    /// A sync failed, so what is on storage is unknown: reads go on, writes need the store to be reopened.
    Poisoned,
}

impl ErrorKind {
    /// The kind as a stable word, such as `not_found`: for logs, exit statuses and other languages.
    ///
    /// ```
    /// assert_eq!(opslog::ErrorKind::NotFound.as_str(), "not_found");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::ReadOnly => "read_only",
            Self::Closed => "closed",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Poisoned => "poisoned",
        }
    }
}

/// An error with its [kind](ErrorKind), the place it concerns, and its source.
///
/// ```
/// use opslog::{ErrorKind, Store};
/// let store: Store = Store::in_memory()?;
/// let error = store.delete("missing").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.to_string(), "record 'missing' not found");
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Box<Detail>);

#[derive(Clone)]
struct Detail {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    line: Option<u64>,
    offset: Option<u64>,
    source: Option<std::sync::Arc<Cause>>,
}

impl Error {
    /// An error of `kind`. `message` is lowercase, has no full stop, and says what to do next.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Unavailable, "the bucket does not answer; try again later");
    /// assert!(error.to_string().contains("bucket"));
    /// ```
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            message: message.into(),
            path: None,
            line: None,
            offset: None,
            source: None,
        }))
    }

    /// The same error, about the file or object at `path`.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").at_path("ops/ops-1.jsonl");
    /// assert!(error.to_string().contains("ops-1.jsonl"));
    /// ```
    #[must_use]
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert(path.into());
        self
    }

    /// The same error, at byte `offset` of its file.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").at_path("a").at_offset(42);
    /// assert_eq!(error.offset(), Some(42));
    /// ```
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The same error, at `line` (from 1) of its file.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").at_path("a").at_line(3);
    /// assert_eq!(error.line(), Some(3));
    /// ```
    #[must_use]
    pub fn at_line(mut self, line: u64) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// The same error, caused by `source`.
    ///
    /// ```
    /// use std::error::Error as _;
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").caused_by(std::fmt::Error);
    /// assert!(error.source().is_some());
    /// ```
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Cause>) -> Self {
        self.0.source = Some(std::sync::Arc::new(source.into()));
        self
    }

    /// What the caller should do about it.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read");
    /// assert_eq!(error.kind(), ErrorKind::Corrupt);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without place and source.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").at_path("a");
    /// assert_eq!(error.message(), "the line cannot be read");
    /// ```
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file or object it is about.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read").at_path("a");
    /// assert_eq!(error.path(), Some(std::path::Path::new("a")));
    /// ```
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The line (from 1) of that file.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read");
    /// assert_eq!(error.line(), None);
    /// ```
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.0.line
    }

    /// The byte offset in that file.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read");
    /// assert_eq!(error.offset(), None);
    /// ```
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Whether something was asked for that does not exist.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read");
    /// assert!(!error.is_not_found());
    /// ```
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// Whether another live writer has the store.
    ///
    /// ```
    /// use opslog::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Corrupt, "the line cannot be read");
    /// assert!(!error.is_locked());
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.kind == ErrorKind::Locked
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A failed file-system call on `path`: the kind follows from what the caller can do about it.
    pub(crate) fn io(doing: &str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            _ => ErrorKind::Unavailable,
        };
        let advice = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "; free some space and try again"
            }
            std::io::ErrorKind::PermissionDenied => "; check who may read and write it",
            std::io::ErrorKind::ReadOnlyFilesystem => {
                "; the file system is read-only, so open the store read-only"
            }
            _ => "; look into the system's log for what is wrong with the disk, and try again",
        };
        Self::new(kind, format!("cannot {doing}: {source}{advice}"))
            .at_path(path)
            .caused_by(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(path) = &self.0.path {
            write!(f, " ({}", path.display())?;
            if let Some(line) = self.0.line {
                write!(f, ", line {line}")?;
            }
            if let Some(offset) = self.0.offset {
                write!(f, ", byte {offset}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        match &self.0.source {
            Some(source) => write!(f, " [{source}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

//! What a caller may choose when opening a store: plain data with defaults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// When a write returns, and so what a crash can take.
///
/// | mode | the call returns | a killed process loses | a power cut loses |
/// |---|---|---|---|
/// | `Immediate` | after the operation is on stable storage | nothing | nothing |
/// | `Group` | when the operation is in the log's buffer and visible | at most the last `interval` | the same |
/// | `Async` | as `Group`, however far the disk is behind, up to 16 MiB | what was not flushed | the same |
///
/// What was lost is always the newest: the surviving operations are a prefix, and no batch is cut.
///
/// ```
/// use std::time::Duration;
/// use opslog::{MemoryBackend, Store, WriteMode};
/// let mode = WriteMode::Group { size: 200, interval: Duration::from_millis(20) };
/// let store: Store = Store::builder().write_mode(mode).open_backend(MemoryBackend::new())?;
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WriteMode {
    /// Each write waits for its sync; concurrent writers share one.
    #[default]
    Immediate,
    /// Writes are flushed together, in the background: after `size` operations, or after `interval`. When the disk cannot keep up, and four times as many
    /// wait for it, the caller waits too.
    Group {
        /// Operations that are written together.
        size: usize,
        /// The longest time that an operation waits for others.
        interval: Duration,
    },
    /// As `Group`, but a caller waits for the disk only when 16 MiB wait for it.
    Async {
        /// Operations that wake the background flush.
        size: usize,
        /// The longest time that an operation waits for others.
        interval: Duration,
    },
}

impl WriteMode {
    /// `Group` with the usual 50 operations and 100 milliseconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use opslog::WriteMode;
    /// let interval = Duration::from_millis(100);
    /// assert_eq!(WriteMode::group(), WriteMode::Group { size: 50, interval });
    /// ```
    #[must_use]
    pub fn group() -> Self {
        Self::Group {
            size: 50,
            interval: Duration::from_millis(100),
        }
    }

    /// `Async` with the usual 50 operations and 100 milliseconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use opslog::WriteMode;
    /// let interval = Duration::from_millis(100);
    /// assert_eq!(WriteMode::asynchronous(), WriteMode::Async { size: 50, interval });
    /// ```
    #[must_use]
    pub fn asynchronous() -> Self {
        Self::Async {
            size: 50,
            interval: Duration::from_millis(100),
        }
    }

    pub(crate) fn is_immediate(self) -> bool {
        self == Self::Immediate
    }
}

/// How long replaced logs are kept, and so how far `history`, `ops` and `undo` reach back across checkpoints.
///
/// ```
/// use opslog::{MemoryBackend, Retention, Store};
/// let store: Store = Store::builder()
///     .history_retention(Retention::None)
///     .open_backend(MemoryBackend::new())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.compact()?;
/// assert!(store.history("a")?.is_empty());
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Retention {
    /// Everything since the store was created.
    #[default]
    All,
    /// Logs that were sealed within this time.
    Age(Duration),
    /// As many of the newest logs as fit into this many bytes.
    Bytes(u64),
    /// Only the operations since the last checkpoint.
    None,
}

/// How `undo` takes back the newest commit.
///
/// ```
/// use opslog::{MemoryBackend, Store, UndoMode};
/// let store: Store = Store::builder()
///     .undo_mode(UndoMode::Append)
///     .open_backend(MemoryBackend::new())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.undo()?;
/// assert_eq!(store.history("a")?.len(), 2);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UndoMode {
    /// By cutting it off the log, as if it had not been; where a checkpoint has sealed it, by appending the reverse commit.
    #[default]
    Truncate,
    /// Always by appending the reverse commit, so that the log tells the whole story.
    Append,
}

/// Where the automatic checkpoint is made.
///
/// ```
/// use opslog::{CheckpointMode, MemoryBackend, Store};
/// let store: Store = Store::builder()
///     .checkpoint_mode(CheckpointMode::Blocking)
///     .checkpoint_threshold(1)
///     .open_backend(MemoryBackend::new())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert_eq!(store.stats()?.ops_since_checkpoint, 0);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CheckpointMode {
    /// On a thread of the store's own, beside the writers.
    #[default]
    Background,
    /// In the write that reaches the threshold, which returns when the checkpoint is done.
    Blocking,
}

/// Where documents are while the store is open.
///
/// ```
/// use opslog::{MemoryBackend, Residency, Store};
/// let store: Store = Store::builder()
///     .residency(Residency::OnDemand { cache_bytes: 1 << 20 })
///     .open_backend(MemoryBackend::new())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert!(store.has("a")?);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Residency {
    /// All in memory.
    #[default]
    Memory,
    /// On storage; read when asked for and cached within a budget. For stores larger than memory, and for opening at once.
    OnDemand {
        /// Bytes of documents to keep in memory: a quarter for those read lately, the rest for those changed since the snapshot. When the
        /// changed ones take half of it (and at least 1 MiB) a checkpoint is made, and at three quarters writers wait for it.
        cache_bytes: usize,
    },
    /// In memory what has changed since the snapshot, however much that is; everything else on storage, read when asked for and not kept. For
    /// callers that keep what they have read themselves, decoded.
    ChangesOnly,
}

impl Residency {
    /// Whether documents stay on storage, in a snapshot with an index.
    pub(crate) fn is_on_storage(self) -> bool {
        self != Self::Memory
    }
}

/// Changes a document of an older version of the application into the present one: document, its version.
pub(crate) type Migration = dyn Fn(Value, u32) -> Result<Value, Failure> + Send + Sync;

/// All choices; [`StoreBuilder`](crate::StoreBuilder) sets them.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone)]
pub(crate) struct Options {
    /// `None`: 1,000, or as many as the snapshot has documents, or three quarters of those there are, whichever is most.
    pub(crate) checkpoint_threshold: Option<u64>,
    pub(crate) checkpoint_on_close: bool,
    pub(crate) checkpoint_mode: CheckpointMode,
    pub(crate) version: Option<u32>,
    pub(crate) migrate: Option<Arc<Migration>>,
    pub(crate) read_only: bool,
    pub(crate) skip_load: bool,
    pub(crate) create: bool,
    pub(crate) write_mode: WriteMode,
    pub(crate) os_buffered: bool,
    pub(crate) retention: Retention,
    pub(crate) undo_mode: UndoMode,
    pub(crate) strict: bool,
    pub(crate) residency: Residency,
    /// Under which id to write beside other agents.
    pub(crate) agent: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint_threshold: None,
            checkpoint_on_close: true,
            checkpoint_mode: CheckpointMode::default(),
            version: None,
            migrate: None,
            read_only: false,
            skip_load: false,
            create: true,
            write_mode: WriteMode::default(),
            os_buffered: false,
            retention: Retention::default(),
            undo_mode: UndoMode::default(),
            strict: false,
            residency: Residency::default(),
            agent: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("write_mode", &self.write_mode)
            .field("read_only", &self.read_only)
            .field("skip_load", &self.skip_load)
            .field("residency", &self.residency)
            .finish_non_exhaustive()
    }
}

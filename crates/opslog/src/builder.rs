//! All options of a store, set one by one.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::backend::{Backend, FsBackend};
use crate::document::Document;
use crate::options::{CheckpointMode, Options, Residency, Retention, UndoMode, WriteMode};
use crate::store::Store;
use crate::{Result, open};

/// All options of a store; each has a default.
///
/// ```
/// use opslog::{Store, WriteMode};
/// # let directory = tempfile::tempdir()?;
/// let store: Store = Store::builder()
///     .write_mode(WriteMode::group())
///     .checkpoint_threshold(1000)
///     .open(directory.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoreBuilder<T: Document = Value> {
    options: Options,
    document: PhantomData<fn() -> T>,
}

impl<T: Document> Default for StoreBuilder<T> {
    fn default() -> Self {
        Self {
            options: Options::default(),
            document: PhantomData,
        }
    }
}

impl<T: Document> StoreBuilder<T> {
    /// Makes a checkpoint after this many operations. Default: 1,000, or as many as the snapshot has documents, or three
    /// quarters of those there are, whichever is most, so that the cost per write does not grow with the store.
    ///
    /// ```
    /// let builder = opslog::Store::<serde_json::Value>::builder().checkpoint_threshold(10_000);
    /// ```
    #[must_use]
    pub fn checkpoint_threshold(mut self, operations: u64) -> Self {
        self.options.checkpoint_threshold = Some(operations);
        self
    }

    /// Whether `close` makes a checkpoint where that costs less than replaying the log. Default: true.
    ///
    /// ```
    /// let builder = opslog::Store::<serde_json::Value>::builder().checkpoint_on_close(false);
    /// ```
    #[must_use]
    pub fn checkpoint_on_close(mut self, yes: bool) -> Self {
        self.options.checkpoint_on_close = yes;
        self
    }

    /// Where automatic checkpoints are made. Default: in the background.
    ///
    /// ```
    /// use opslog::{CheckpointMode, Store};
    /// let builder = Store::<serde_json::Value>::builder().checkpoint_mode(CheckpointMode::Blocking);
    /// ```
    #[must_use]
    pub fn checkpoint_mode(mut self, mode: CheckpointMode) -> Self {
        self.options.checkpoint_mode = mode;
        self
    }

    /// The version of the application's documents, at least 1. A store of a lower version is migrated, one of a higher is refused. Without
    /// [`migrate`](Self::migrate) its documents stay as they are, and the store is only marked with the new version. Default: whatever the store has; 1 for a new one.
    ///
    /// ```
    /// let builder = opslog::Store::<serde_json::Value>::builder().version(2);
    /// ```
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.options.version = Some(version);
        self
    }

    /// How a document of an older version becomes one of the present [`version`](Self::version): gets the document and the store's old version. When it
    /// fails for one document the open fails, and nothing is changed.
    ///
    /// ```
    /// let backend = opslog::MemoryBackend::new();
    /// let store: opslog::Store = opslog::Store::builder().open_backend(backend.clone())?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.close()?;
    /// let store: opslog::Store = opslog::Store::builder()
    ///     .version(2)
    ///     .migrate(|mut document, _from| {
    ///         document["migrated"] = true.into();
    ///         Ok(document)
    ///     })
    ///     .open_backend(backend)?;
    /// assert_eq!(store.get("a")?.expect("it was set")["migrated"], true);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn migrate(
        mut self,
        migrate: impl Fn(
            Value,
            u32,
        )
            -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.options.migrate = Some(Arc::new(migrate));
        self
    }

    /// Opens without a lock, beside a writer, and never writes. Default: false.
    ///
    /// ```
    /// let missing = opslog::Store::<serde_json::Value>::builder()
    ///     .read_only(true)
    ///     .open_backend(opslog::MemoryBackend::new());
    /// assert!(missing.unwrap_err().is_not_found());
    /// ```
    #[must_use]
    pub fn read_only(mut self, yes: bool) -> Self {
        self.options.read_only = yes;
        self
    }

    /// Opens for writing without loading documents: reads see only what was written since, and no checkpoint is made. Default: false.
    ///
    /// ```
    /// let backend = opslog::MemoryBackend::new();
    /// let store: opslog::Store = opslog::Store::builder().skip_load(true).open_backend(backend)?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert!(store.compact().is_err());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn skip_load(mut self, yes: bool) -> Self {
        self.options.skip_load = yes;
        self
    }

    /// Whether a store that does not exist is created. Default: true.
    ///
    /// ```
    /// let missing = opslog::Store::<serde_json::Value>::builder()
    ///     .create(false)
    ///     .open_backend(opslog::MemoryBackend::new());
    /// assert!(missing.unwrap_err().is_not_found());
    /// ```
    #[must_use]
    pub fn create(mut self, yes: bool) -> Self {
        self.options.create = yes;
        self
    }

    /// When a write returns, and so what a crash can take. Default: `Immediate`.
    ///
    /// ```
    /// use opslog::{Store, WriteMode};
    /// let builder = Store::<serde_json::Value>::builder().write_mode(WriteMode::group());
    /// ```
    #[must_use]
    pub fn write_mode(mut self, mode: WriteMode) -> Self {
        self.options.write_mode = mode;
        self
    }

    /// Leaves syncing to the operating system: what was acknowledged survives a killed process, and not a power cut. This is what
    /// the npm package promises. Only for stores in a directory. Default: false.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let store: opslog::Store = opslog::Store::builder().os_buffered(true).open(directory.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn os_buffered(mut self, yes: bool) -> Self {
        self.options.os_buffered = yes;
        self
    }

    /// How long replaced logs are kept for history and undo. Default: for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use opslog::{Retention, Store};
    /// let month = Duration::from_secs(30 * 24 * 3600);
    /// let builder = Store::<serde_json::Value>::builder().history_retention(Retention::Age(month));
    /// ```
    #[must_use]
    pub fn history_retention(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// How undo takes back a commit. Default: by cutting it off the log where possible.
    ///
    /// ```
    /// use opslog::{Store, UndoMode};
    /// let builder = Store::<serde_json::Value>::builder().undo_mode(UndoMode::Append);
    /// ```
    #[must_use]
    pub fn undo_mode(mut self, mode: UndoMode) -> Self {
        self.options.undo_mode = mode;
        self
    }

    /// Whether to refuse to open a store whose log is damaged, instead of leaving the damaged part out and reporting it. Default: false.
    ///
    /// ```
    /// let builder = opslog::Store::<serde_json::Value>::builder().strict(true);
    /// ```
    #[must_use]
    pub fn strict(mut self, yes: bool) -> Self {
        self.options.strict = yes;
        self
    }

    /// Where documents are while the store is open. Default: in memory.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// use opslog::{Residency, Store};
    /// let store: Store = Store::builder()
    ///     .residency(Residency::OnDemand { cache_bytes: 64 << 20 })
    ///     .open(directory.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn residency(mut self, residency: Residency) -> Self {
        self.options.residency = residency;
        self
    }

    /// Writes beside other agents, under this id: 1 to 64 letters, digits, `.`, `_` or `-`. Each process that writes to the store at the same time has an id of its own,
    /// and sees what the others wrote with [`refresh`](Store::refresh), [`tail`](Store::tail) or [`watch`](Store::watch). Of two that change one document, the later one by
    /// Lamport clock wins. A store becomes one of agents when the first of them opens it, and is a single writer's again when the last one has closed it.
    ///
    /// `write_mode` is `Immediate` for agents, documents are in memory, and `undo` takes back this agent's last commit. The protocol is in `docs/multi-writer.md`.
    ///
    /// ```
    /// use opslog::{MemoryBackend, Store};
    /// let backend = MemoryBackend::new();
    /// let ann: Store = Store::builder().agent_id("ann").open_backend(backend.clone())?;
    /// let ben: Store = Store::builder().agent_id("ben").open_backend(backend)?;
    /// ann.set("a", &serde_json::json!({"by": "ann"}))?;
    /// ben.refresh()?;
    /// assert!(ben.has("a")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn agent_id(mut self, id: impl Into<String>) -> Self {
        self.options.agent = Some(id.into());
        self
    }

    /// Opens the store in the directory `path`, or creates it.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let store: opslog::Store = opslog::Store::builder().open(directory.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store<T>> {
        let backend = FsBackend::new(path.as_ref()).with_os_buffered(self.options.os_buffered);
        self.open_backend(backend)
    }

    /// Opens the store on `backend`, or creates it.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    ///
    /// ```
    /// let store: opslog::Store = opslog::Store::builder().open_backend(opslog::MemoryBackend::new())?;
    /// assert_eq!(store.count()?, 0);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn open_backend(self, backend: impl Backend) -> Result<Store<T>> {
        open::open(self.options, Arc::new(backend)).map(Store::on)
    }
}

//! The public handle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::backend::{Backend, MemoryBackend};
use crate::backup::BackupReport;
use crate::batch::Batch;
use crate::builder::StoreBuilder;
use crate::commit::each::Write;
use crate::document::{Document, Json};
use crate::engine::{Engine, lock};
use crate::follow::{Tail, Watch};
use crate::op::{Operation, Since};
use crate::recover::OpenReport;
use crate::stats::{AgentInfo, ManifestInfo, Stats};
use crate::stream::{OpStream, SnapshotStream};
use crate::sync::Mutex;
use crate::undo::Undone;
use crate::view::View;

/// An open store of documents of type `T`.
///
/// A handle is cheap to clone, and all clones are the same store; it can be used from many threads at once. Reads never wait for
/// the disk (unless another [`Residency`](crate::Residency) than `Memory` was chosen) and see whole commits only. When the last handle is dropped, what was accepted is flushed and the lock released; [`close`](Self::close) does that
/// too, makes a checkpoint where it is worth it, and reports errors.
///
/// One rule of locking is enough to know: one writer lock orders everything that changes the store. [`batch`](Self::batch) and
/// [`archive`](Self::archive) run the caller's function while they hold it; such a function may read the store, but must write only through what it is given.
///
/// ```
/// use opslog::Store;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Task { title: String, done: bool }
///
/// let directory = tempfile::tempdir()?;
/// let store: Store<Task> = Store::open(directory.path())?;
/// store.set("task-1", &Task { title: "write".into(), done: false })?;
/// store.set("task-1", &Task { title: "write".into(), done: true })?;
/// store.undo()?;
/// assert!(!store.get("task-1")?.expect("it was set").done);
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store<T: Document = Value> {
    engine: Arc<Engine<T>>,
    threads: Arc<Threads<T>>,
}

/// What all clones of a handle share: it ends with the last of them.
///
/// Invariant: it outlives the `engine` of every clone, so the store's threads have ended before the engine is dropped, and nobody but the
/// last handle (or the callback that drops it) keeps the lock.
struct Threads<T: Document> {
    engine: Arc<Engine<T>>,
    watch: Mutex<Option<Watch>>,
}

impl<T: Document> Drop for Threads<T> {
    fn drop(&mut self) {
        drop(lock(&self.watch).take());
        self.engine.background.stop();
    }
}

impl<T: Document> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            threads: Arc::clone(&self.threads),
        }
    }
}

impl<T: Document> Store<T> {
    /// Opens the store in the directory `path`, or creates it, with the usual options.
    ///
    /// # Errors
    ///
    /// `Locked` while another process writes; `Corrupt` where the manifest, the snapshot or a file they name is damaged or missing; `UnsupportedVersion` for a
    /// store of a newer format; `Unavailable` when the storage refuses. In each case nothing was changed.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let store: opslog::Store = opslog::Store::open(directory.path())?;
    /// assert_eq!(store.count()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// All options, to open a store with.
    ///
    /// ```
    /// use opslog::{MemoryBackend, Store};
    ///
    /// let store: Store = Store::builder().checkpoint_threshold(500).open_backend(MemoryBackend::new())?;
    /// assert_eq!(store.count()?, 0);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn builder() -> StoreBuilder<T> {
        StoreBuilder::default()
    }

    /// A new store that lives in memory only.
    ///
    /// # Errors
    ///
    /// None is known; the signature is that of the other ways to open.
    ///
    /// ```
    /// let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert!(store.has("a")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn in_memory() -> Result<Self> {
        Self::builder().open_backend(MemoryBackend::new())
    }

    /// Flushes, makes a checkpoint where it is worth it, and releases the lock. Afterwards every call on any clone answers `Closed`; a
    /// second `close` does nothing.
    ///
    /// # Errors
    ///
    /// What the last flush or the checkpoint failed with. After a failed checkpoint everything acknowledged is still in the log; after a failed flush the
    /// buffered operations are lost with the handle, as the write mode says. The lock is released in any case.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.close()?;
    /// assert_eq!(store.get("a").unwrap_err().kind(), opslog::ErrorKind::Closed);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        self.unwatch();
        self.engine.close()
    }

    pub(crate) fn on(engine: Arc<Engine<T>>) -> Self {
        let threads = Arc::new(Threads {
            engine: Arc::clone(&engine),
            watch: Mutex::default(),
        });
        Self { engine, threads }
    }

    /// The document of `id`; decoded at most once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when it does not fit `T`; `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(store.get("a")?.expect("it was set")["n"], 1);
    /// assert!(store.get("b")?.is_none());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn get(&self, id: &str) -> Result<Option<Arc<T>>> {
        self.engine.get(id)
    }

    /// The document's JSON text, as it is stored.
    ///
    /// # Errors
    ///
    /// `Closed`; those of reading, where documents are on storage.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(store.get_json("a")?.expect("it was set").as_str(), r#"{"n":1}"#);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn get_json(&self, id: &str) -> Result<Option<Json>> {
        self.engine.get_json(id)
    }

    /// Whether there is a document of `id`.
    ///
    /// # Errors
    ///
    /// As for [`get_json`](Self::get_json).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert!(store.has("a")? && !store.has("b")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn has(&self, id: &str) -> Result<bool> {
        self.engine.has(id)
    }

    /// Creates or replaces the document of `id`. An update keeps the document's place in the order. What survives a crash once this has
    /// returned is said by the [`WriteMode`](crate::WriteMode).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty or too long id, a document that is not a JSON object, contains a number that is not finite, or is nested deeper than 256 levels; `ReadOnly`; `Closed`;
    /// `Unavailable` when the storage refuses (nothing was changed); `Poisoned` after a failed sync.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.set("a", &serde_json::json!({"n": 2}))?;
    /// assert_eq!(store.count()?, 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn set(&self, id: &str, document: &T) -> Result<()> {
        self.engine.set(id, document)
    }

    /// As [`set`](Self::set), for a document given as JSON text, which is stored as it is but for white space.
    ///
    /// # Errors
    ///
    /// As for `set`; `InvalidInput` when the text is not valid JSON.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set_json("a", r#"{ "price": 1.50 }"#)?;
    /// assert_eq!(store.get_json("a")?.expect("it was set").as_str(), r#"{"price":1.50}"#);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn set_json(&self, id: &str, text: &str) -> Result<()> {
        self.engine.set_json(id, text)
    }

    /// Deletes the document of `id`. What survives a crash once this has returned is said by the [`WriteMode`](crate::WriteMode).
    ///
    /// # Errors
    ///
    /// `NotFound` when there is none: then nothing is written; otherwise as for [`set`](Self::set).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.delete("a")?;
    /// assert!(store.delete("a").unwrap_err().is_not_found());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn delete(&self, id: &str) -> Result<()> {
        self.engine.delete(id)
    }

    /// Many writes, each a commit of its own as by [`set_json`](Self::set_json) and [`delete`](Self::delete), in order, with the result of each. In `Immediate`
    /// mode they share a sync, and all of them have ended when it returns: for a caller that collects the writes of others.
    ///
    /// ```
    /// use opslog::Write;
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// let results = store.write_each([Write::Set { id: "a", json: "{}" }, Write::Set { id: "b", json: "{}" }]);
    /// assert!(results.iter().all(Result::is_ok));
    /// store.undo()?;
    /// assert!(store.has("a")? && !store.has("b")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn write_each<'w>(&self, writes: impl IntoIterator<Item = Write<'w>>) -> Vec<Result<()>> {
        self.engine.write_each(writes)
    }

    /// One write whose caller knows whether its document `existed` before, and has told others already that the write is accepted. Where documents stay on
    /// storage ([`Residency`](crate::Residency)), the other calls refuse a write when the document before it cannot be read. This one makes it, and believes
    /// the caller; the operation is then [`blind`](crate::Operation::blind). What survives a crash once this has returned is said by the
    /// [`WriteMode`](crate::WriteMode).
    ///
    /// Only for a caller through whom all writes go: where nothing could be read, a wrong `existed` leaves the store with two documents of one id, or without
    /// the new one, once a checkpoint has been made.
    ///
    /// # Errors
    ///
    /// Otherwise as for [`set_json`](Self::set_json) and [`delete`](Self::delete).
    ///
    /// ```
    /// use opslog::Write;
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.write_accepted(Write::Set { id: "a", json: "{}" }, false)?;
    /// store.write_accepted(Write::Delete { id: "a" }, true)?;
    /// assert_eq!(store.count()?, 0);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn write_accepted(&self, write: Write<'_>, existed: bool) -> Result<()> {
        self.engine.write_accepted(write, existed)
    }

    /// All documents, in insertion order.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when one does not fit `T`; `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(store.all()?[0]["n"], 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn all(&self) -> Result<Vec<Arc<T>>> {
        self.filter(|_, _| true)
    }

    /// All ids and documents, in insertion order.
    ///
    /// # Errors
    ///
    /// As for [`all`](Self::all).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let (id, document) = &store.entries()?[0];
    /// assert_eq!((id.as_str(), document["n"].as_i64()), ("a", Some(1)));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn entries(&self) -> Result<Vec<(String, Arc<T>)>> {
        self.view()?.entries()
    }

    /// The documents that `predicate` picks, in insertion order. It sees one consistent state, and holds no lock.
    ///
    /// # Errors
    ///
    /// As for [`all`](Self::all).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// for n in 0..10 {
    ///     store.set(&format!("id-{n}"), &serde_json::json!({"n": n}))?;
    /// }
    /// let small = store.filter(|document, _id| document["n"].as_i64() < Some(3))?;
    /// assert_eq!(small.len(), 3);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn filter(&self, predicate: impl FnMut(&T, &str) -> bool) -> Result<Vec<Arc<T>>> {
        self.view()?.filter(predicate)
    }

    /// The number of documents.
    ///
    /// # Errors
    ///
    /// `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(store.count()?, 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn count(&self) -> Result<usize> {
        self.engine.ensure_open()?;
        Ok(self.engine.state().len())
    }

    /// The number of documents that `predicate` picks.
    ///
    /// # Errors
    ///
    /// As for [`all`](Self::all).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(store.count_where(|document, _id| document["n"] == 2)?, 0);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn count_where(&self, predicate: impl FnMut(&T, &str) -> bool) -> Result<usize> {
        self.view()?.count_where(predicate)
    }

    /// The documents as they are now; later writes do not change the view.
    ///
    /// # Errors
    ///
    /// `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// store.delete("a")?;
    /// assert_eq!((view.len(), store.count()?), (1, 0));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn view(&self) -> Result<View<T>> {
        self.engine.ensure_open()?;
        Ok(View::new(self.engine.state().freeze()))
    }

    /// Runs `f`, and commits what it has put into the batch as one: all of it, or, when `f` fails or panics, nothing; in memory, on storage and after a
    /// crash. Other writers wait while `f` runs. An empty batch does no input or output.
    ///
    /// # Errors
    ///
    /// What `f` answers; otherwise as for [`set`](Self::set).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// let total = store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     batch.set("b", &serde_json::json!({"n": 2}))?;
    ///     batch.count()
    /// })?;
    /// assert_eq!(total, 2);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn batch<R>(&self, f: impl FnOnce(&mut Batch<'_, T>) -> Result<R>) -> Result<R> {
        self.engine.batch(f)
    }

    /// Takes back the last commit (a batch is one) and says whether there was one. Called again and again it goes back to the first kept commit, across checkpoints and reopens; it
    /// stops at an archive and at a migration. By default the commit leaves no trace in the history, unless a checkpoint has sealed it; see [`UndoMode`](crate::UndoMode). An agent takes back its own
    /// commits. Durable on return, in every write mode.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert!(store.undo()?);
    /// assert!(!store.has("a")?);
    /// assert!(!store.undo()?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn undo(&self) -> Result<bool> {
        Ok(self.engine.undo()?.is_some())
    }

    /// As [`undo`](Self::undo), and gives the ids that the commit had changed, each with the document that it has again; `None` if there was no commit.
    ///
    /// # Errors
    ///
    /// As for [`undo`](Self::undo).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let undone = store.undo_commit()?.expect("there was a commit");
    /// assert_eq!((undone.len(), &undone[0].id[..], &undone[0].document), (1, "a", &None));
    /// assert_eq!(store.undo_commit()?, None);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn undo_commit(&self) -> Result<Option<Vec<Undone>>> {
        self.engine.undo_commit()
    }

    /// All kept operations of one document, oldest first, as far back as the [`Retention`](crate::Retention) goes.
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt` or `Unavailable` when a log cannot be read.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.set("a", &serde_json::json!({"n": 2}))?;
    /// let history = store.history("a")?;
    /// assert_eq!(history.len(), 2);
    /// assert_eq!(history[1].prev.as_ref().expect("an update").as_str(), r#"{"n":1}"#);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn history(&self, id: &str) -> Result<Vec<Operation>> {
        self.engine.history(id)
    }

    /// The kept operations after a time (strictly) or a cursor, or all of them, oldest first.
    ///
    /// # Errors
    ///
    /// `Conflict` when the cursor's operation was taken back, `NotFound` when it is older than what is kept; otherwise as for [`history`](Self::history).
    ///
    /// ```
    /// use opslog::Since;
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let all = store.ops(Since::Start)?;
    /// store.set("b", &serde_json::json!({"n": 2}))?;
    /// assert_eq!(store.ops(&all[0].cursor)?.len(), 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn ops(&self, since: impl Into<Since>) -> Result<Vec<Operation>> {
        self.engine.ops(&since.into())
    }

    /// Makes a checkpoint now: a new snapshot, and a new log with what came after it. Writers go on meanwhile.
    ///
    /// # Errors
    ///
    /// `InvalidInput` in `skip_load` mode; `Unavailable` when the storage refuses: then everything is as before.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.compact()?;
    /// assert_eq!(store.stats()?.ops_since_checkpoint, 0);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn compact(&self) -> Result<()> {
        self.engine.checkpoint()
    }

    /// Moves the documents that `predicate` picks out of the active set, to the archive segment (by default the present quarter, such as `2026-Q4`), and says how
    /// many. What the segment has already stays; a document that it has under the same id is replaced. Durable on return. `undo` does not go back behind it, and it is no operation: `history` and `ops` do not show it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a segment name that is not 1 to 100 bytes of letters, digits, `.`, `_`, `-` and space; otherwise as for [`compact`](Self::compact).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"done": true}))?;
    /// store.archive(|document, _id| document["done"] == true, Some("2026-Q4"))?;
    /// assert!(!store.has("a")?);
    /// assert_eq!(store.load_archive("2026-Q4")?[0].0, "a");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn archive(
        &self,
        predicate: impl FnMut(&T, &str) -> bool,
        segment: Option<&str>,
    ) -> Result<usize> {
        self.engine.archive(predicate, segment)
    }

    /// The documents of an archive segment, in the order in which they were archived. They stay in the archive.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no segment of exactly this name; `Corrupt` when its file is damaged or missing.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.archive(|_document, id| id == "a", Some("old"))?;
    /// assert_eq!(store.load_archive("old")?[0].0, "a");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn load_archive(&self, segment: &str) -> Result<Vec<(String, Arc<T>)>> {
        self.engine.load_archive(segment)
    }

    /// As [`load_archive`](Self::load_archive), with the documents' JSON text.
    ///
    /// # Errors
    ///
    /// As for [`load_archive`](Self::load_archive).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.archive(|_document, id| id == "a", Some("old"))?;
    /// assert_eq!(store.load_archive_json("old")?[0].1.as_str(), r#"{"n":1}"#);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn load_archive_json(&self, segment: &str) -> Result<Vec<(String, Json)>> {
        self.engine.load_archive_json(segment)
    }

    /// The files of all archive segments, such as `archive/archive-2026-Q4.json`.
    ///
    /// # Errors
    ///
    /// `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.archive(|_document, id| id == "a", Some("old"))?;
    /// assert_eq!(store.archive_segments()?, ["archive/archive-old.json"]);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn archive_segments(&self) -> Result<Vec<String>> {
        self.engine.archive_segments()
    }

    /// The agents that have written to the store, by id, as this handle has last seen them; none in a store that only single writers used.
    ///
    /// # Errors
    ///
    /// `Closed`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// assert!(store.agents()?.is_empty());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn agents(&self) -> Result<Vec<AgentInfo>> {
        self.engine.agents()
    }

    /// Figures about the store.
    ///
    /// # Errors
    ///
    /// `Closed`; `Unavailable` when file sizes cannot be read.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let stats = store.stats()?;
    /// assert_eq!((stats.active_documents, stats.ops_since_checkpoint), (1, 1));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        self.engine.stats()
    }

    /// What the manifest says now.
    ///
    /// # Errors
    ///
    /// `Closed`; those of reading the manifest, in a read-only store.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.compact()?;
    /// assert_eq!(store.manifest()?.active_documents, 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn manifest(&self) -> Result<ManifestInfo> {
        self.engine.manifest_info()
    }

    /// The documents of the current snapshot, one in memory at a time. Together with [`log_ops`](Self::log_ops) they are the state.
    ///
    /// # Errors
    ///
    /// `Closed`; those of reading, also of each item.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.compact()?;
    /// for document in store.stream_snapshot()? {
    ///     let (id, json) = document?;
    ///     assert_eq!((id.as_str(), json.as_str()), ("a", r#"{"n":1}"#));
    /// }
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn stream_snapshot(&self) -> Result<SnapshotStream> {
        self.engine.stream_snapshot()
    }

    /// The operations after the current snapshot, those after `since`, one in memory at a time.
    ///
    /// # Errors
    ///
    /// As for [`stream_snapshot`](Self::stream_snapshot).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.compact()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// for operation in store.log_ops(opslog::Since::Start)? {
    ///     assert_eq!(operation?.id, "a");
    /// }
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn log_ops(&self, since: impl Into<Since>) -> Result<OpStream> {
        self.engine.log_ops(&since.into())
    }

    /// Brings a read-only store up to date with what another process wrote.
    ///
    /// # Errors
    ///
    /// Those of reading; the store stays as it was.
    ///
    /// ```
    /// let backend = opslog::MemoryBackend::new();
    /// let writer: opslog::Store = opslog::Store::builder().open_backend(backend.clone())?;
    /// let reader: opslog::Store = opslog::Store::builder().read_only(true).open_backend(backend)?;
    /// writer.set("a", &serde_json::json!({"n": 1}))?;
    /// reader.refresh()?;
    /// assert!(reader.has("a")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn refresh(&self) -> Result<()> {
        self.engine.refresh()
    }

    /// As [`refresh`](Self::refresh), and gives the operations that came. With nothing new it costs a few small reads.
    ///
    /// # Errors
    ///
    /// As for `refresh`.
    ///
    /// ```
    /// let backend = opslog::MemoryBackend::new();
    /// let writer: opslog::Store = opslog::Store::builder().open_backend(backend.clone())?;
    /// let reader: opslog::Store = opslog::Store::builder().read_only(true).open_backend(backend)?;
    /// writer.set("a", &serde_json::json!({"n": 1}))?;
    /// assert_eq!(reader.tail()?.operations[0].id, "a");
    /// assert!(reader.tail()?.operations.is_empty());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn tail(&self) -> Result<Tail> {
        self.engine.tail()
    }

    /// Calls `callback`, on a thread of its own, with what came, and with errors, looking every `interval`. It ends with [`unwatch`](Self::unwatch), with `close`, or with
    /// the last handle. A second call replaces the first.
    ///
    /// # Errors
    ///
    /// `Closed`; `Unavailable` when the system cannot start a thread.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let backend = opslog::MemoryBackend::new();
    /// let writer: opslog::Store = opslog::Store::builder().open_backend(backend.clone())?;
    /// let reader: opslog::Store = opslog::Store::builder().read_only(true).open_backend(backend)?;
    /// let (sender, receiver) = mpsc::channel();
    /// reader.watch(Duration::from_millis(5), move |news| {
    ///     let _ = sender.send(news);
    /// })?;
    /// writer.set("a", &serde_json::json!({"n": 1}))?;
    /// let news = receiver.recv().expect("the watch goes on")?;
    /// assert_eq!(news.operations[0].id, "a");
    /// reader.unwatch();
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn watch(
        &self,
        interval: Duration,
        callback: impl FnMut(Result<Tail>) + Send + 'static,
    ) -> Result<()> {
        self.engine.ensure_open()?;
        self.unwatch();
        let watch = Watch::start(&self.engine, interval, callback)?;
        *lock(&self.threads.watch) = Some(watch);
        Ok(())
    }

    /// Ends [`watch`](Self::watch). When it returns, no callback is running, unless it was called from one.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.watch(std::time::Duration::from_secs(1), |_news| {})?;
    /// store.unwatch();
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn unwatch(&self) {
        let watch = lock(&self.threads.watch).take();
        drop(watch);
    }

    /// When it returns, all that was accepted before is on stable storage.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the storage refuses: what was accepted stays buffered and is tried again; `Poisoned` after a failed sync.
    ///
    /// ```
    /// use opslog::{MemoryBackend, Store, WriteMode};
    ///
    /// let store: Store = Store::builder()
    ///     .write_mode(WriteMode::asynchronous())
    ///     .open_backend(MemoryBackend::new())?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.flush()?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn flush(&self) -> Result<()> {
        self.engine.flush()
    }

    /// The same as [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As for `flush`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.sync()?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn sync(&self) -> Result<()> {
        self.flush()
    }

    /// Copies the store, blobs included, to the directory `to`, which must be empty or not exist; writers go on meanwhile. The copy has everything that was accepted before
    /// the call; on return it is on stable storage and has been read again. [`restore`](crate::restore) brings it back.
    ///
    /// # Errors
    ///
    /// As for [`backup`](crate::backup()); `Closed`; `InvalidInput` from within a batch.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let copy = directory.path().join("copy");
    /// let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// store.backup(&copy)?;
    /// assert!(opslog::verify(&copy)?.is_sound());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        self.engine.backup(to.as_ref())
    }

    /// What recovery left out when the store was opened.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// assert!(store.open_report().damage.is_empty());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn open_report(&self) -> &OpenReport {
        &self.engine.report
    }

    /// The storage under the store, for blobs.
    ///
    /// ```
    /// use opslog::Blobs;
    ///
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.backend().write_blob("notes/a.txt", b"hello")?;
    /// assert_eq!(store.backend().read_blob("notes/a.txt")?, b"hello");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn backend(&self) -> &dyn Backend {
        &*self.engine.backend
    }
}

impl<T: Document> std::fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("location", &self.engine.backend.location())
            .field("options", &self.engine.options)
            .finish_non_exhaustive()
    }
}

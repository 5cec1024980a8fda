//! Making a damaged store whole again from what is readable of it.
//!
//! First everything is read and a plan is made (`examine`); nothing is changed. Then (`apply`) the plan is carried out like a checkpoint: whatever is replaced or left out is
//! copied to a `.damaged` file, a new snapshot and new logs are written beside the old files and checked, and the new manifest makes them the store. Before that
//! moment the store is what it was; so a crash, or a full disk, leaves nothing worse, and repairing can be tried again.
//!
//! A store of agents is left as its last agent would leave it: all that can be merged is in the snapshot, every log is history, and the clock in the manifest is above all
//! operations that there were. So any agent can come back, and a single writer too.
//!
//! Every operation carries a checksum, a document in a snapshot does not. So where a snapshot is damaged, the kept operations say which documents are right, and give back those that are
//! lost. What no operation vouches for is kept, and named in the report as doubtful.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use crate::backend::{Backend, FsBackend, LockGuard};
use crate::format::manifest::{AgentFacts, ArchiveFacts, SealedLog};
use crate::merge::Agent;
use crate::oplog::DamageKind;
use crate::recover::DamageReport;
use crate::salvage::Unreadable;
use crate::state::State;
use crate::{Error, ErrorKind, Result, paths};

mod agents;
mod apply;
mod archives;
mod examine;
mod history;
mod logs;
mod sources;

/// What [`repair`] did, or [`plan_repair`] would do.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # opslog::Store::<serde_json::Value>::open(directory.path())?.close()?;
/// let report = opslog::plan_repair(directory.path())?;
/// assert!(!report.is_needed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// The parts that could not be read as what they were.
    pub unreadable: Vec<UnreadablePart>,
    /// Documents of unreadable parts that were brought back from the operations that wrote them: nothing of these is lost.
    pub recovered: Vec<String>,
    /// Documents that were kept although nothing vouches for every byte of them: the file's checksum does not match, and no kept operation says what they were.
    pub doubtful: Vec<String>,
    /// Those of the doubtful documents whose text is not what the last kept operation on them says, though a migration, say, may be why: look at these first.
    pub differing: Vec<String>,
    /// Documents of unreadable parts that are not in the store any more, or only as they were before. Where the damage hit an id itself, it is not among them, or not as it was.
    pub lost: Vec<String>,
    /// How many documents of archive segments are lost of which not even the id is known.
    pub nameless: u64,
    /// The files in which everything is kept that was replaced or left out, as it was.
    pub kept: Vec<String>,
    /// Documents in the store now; 0 where there was nothing to repair.
    pub documents: u64,
    /// Operations in its logs now; 0 where there was nothing to repair.
    pub operations: u64,
}

/// A part of a file that could not be read, and what is known of it.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # opslog::Store::<serde_json::Value>::open(directory.path())?.close()?;
/// for part in opslog::plan_repair(directory.path())?.unreadable {
///     panic!("{} at byte {}: {:?}", part.place.path, part.place.offset, part.ids);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadablePart {
    /// File, offset, length, and what is wrong there.
    pub place: DamageReport,
    /// The ids that can be made out in it.
    pub ids: Vec<String>,
}

impl RepairReport {
    /// Whether there is, or was, anything to repair. The torn end of a log, which the next writer cuts off, is nothing to repair.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// # store.close()?;
    /// assert!(!opslog::repair_backend(store.backend())?.is_needed());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let mut parts = self.unreadable.iter();
        parts.any(|part| part.place.kind == DamageKind::Damaged)
    }
}

/// Makes the damaged store in the directory `path` whole again, from what is readable of its snapshot, its logs, the replaced logs that serve history, and its archive segments; also
/// when the manifest is lost. What it replaces or leaves out it keeps, in files that end in `.damaged`, and the report says exactly what that was. It does nothing to a store that is not damaged.
///
/// Of a store of agents it merges what is readable, by their stamps; what the loss of the stamps leaves undecided is kept, and named as doubtful. No agent may have the store open.
///
/// Afterwards [`verify`](crate::verify()) finds the store sound; `undo` does not reach behind the repair.
///
/// # Errors
///
/// `Locked` while a writer has the store open, or agents, which are named; `NotFound` when there is no store; `UnsupportedVersion` for a store of a newer format, and for one of several agents of the
/// npm package, whose logs have no checksums; `Unavailable` when the storage refuses. In each case the store is what it was.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let store: opslog::Store = opslog::Store::open(directory.path())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.close()?;
/// # #[expect(clippy::disallowed_methods)]
/// std::fs::remove_file(directory.path().join("manifest.json"))?;
/// let report = opslog::repair(directory.path())?;
/// assert!(report.is_needed() && report.lost.is_empty());
/// let store: opslog::Store = opslog::Store::open(directory.path())?;
/// assert!(store.has("a")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn repair(path: impl AsRef<Path>) -> Result<RepairReport> {
    let path = path.as_ref();
    examine::ensure_store(&FsBackend::new(path))?;
    repair_backend(&FsBackend::new(path))
}

/// As [`repair`], for a store on any backend.
///
/// # Errors
///
/// As for `repair`.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// # store.close()?;
/// let report = opslog::repair_backend(store.backend())?;
/// assert!(report.kept.is_empty());
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn repair_backend(backend: &dyn Backend) -> Result<RepairReport> {
    examine::ensure_store(backend)?;
    backend.initialize()?;
    let held: Box<dyn LockGuard> = backend
        .lock()
        .map_err(|error| name_agents(backend, error))?;
    let report = match examine::examine(backend)? {
        None => RepairReport::default(),
        Some(plan) => apply::apply(backend, plan)?,
    };
    drop(held);
    Ok(report)
}

/// Says which agents have the store open, if that is why it is locked.
fn name_agents(backend: &dyn Backend, error: Error) -> Error {
    let Ok(logs) = backend.list(paths::OPS) else {
        return error;
    };
    let is_alive = |agent: &str| match backend.lock_agent(agent) {
        Err(error) => error
            .path()
            .is_some_and(|path| path.ends_with(paths::agent_flock(agent))),
        Ok(_) => false,
    };
    let mut alive: Vec<&str> = logs
        .iter()
        .filter_map(|log| paths::parse_agent_ops(&log.name))
        .map(|(agent, _)| agent)
        .collect();
    alive.sort_unstable();
    alive.dedup();
    alive.retain(|agent| is_alive(agent));
    if !error.is_locked() || alive.is_empty() {
        return error;
    }
    let (names, verb) = match &alive[..] {
        [one] => (format!("agent '{one}'"), "has"),
        _ => (format!("agents '{}'", alive.join("', '")), "have"),
    };
    Error::new(
        ErrorKind::Locked,
        format!("{names} {verb} the store open; close it there, then repair it"),
    )
    .at_path(backend.location())
    .caused_by(error)
}

/// Says what [`repair`] would do, and changes nothing. Beside a writer it may take what is being written for damage.
///
/// # Errors
///
/// As for `repair`, except `Locked`.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let store: opslog::Store = opslog::Store::open(directory.path())?;
/// store.close()?;
/// assert!(!opslog::plan_repair(directory.path())?.is_needed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan_repair(path: impl AsRef<Path>) -> Result<RepairReport> {
    plan_repair_backend(&FsBackend::new(path.as_ref()))
}

/// As [`plan_repair`], for a store on any backend.
///
/// # Errors
///
/// As for `plan_repair`.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// assert!(!opslog::plan_repair_backend(store.backend())?.is_needed());
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn plan_repair_backend(backend: &dyn Backend) -> Result<RepairReport> {
    examine::ensure_store(backend)?;
    let Some(plan) = examine::examine(backend)? else {
        return Ok(RepairReport::default());
    };
    let mut report = plan.report;
    report.kept = plan
        .remove
        .iter()
        .map(|name| paths::damaged(name))
        .collect();
    Ok(report)
}

/// What is to be done.
struct Plan {
    report: RepairReport,
    version: u32,
    created: String,
    generation: u64,
    /// The documents, in their order.
    documents: State<()>,
    logs: Vec<LogPlan>,
    archives: Vec<ArchivePlan>,
    /// Files that are kept as `.damaged` and then removed.
    remove: Vec<String>,
    /// Files that are sound, and replaced by others with the same content.
    superseded: Vec<String>,
    /// The number of the single writer's next operation.
    next_seq: u64,
    /// Every agent that has written to the store, with all that is left of its work in the snapshot.
    agents: Vec<AgentFacts>,
    /// At least the clock of every operation that there ever was, as far as can be told.
    clock: u64,
}

/// What becomes of a log.
struct LogPlan {
    name: String,
    agent: Option<Agent>,
    /// How many of its bytes count.
    bytes: u64,
    /// The numbers that its operations may have: others are in another log too, or were taken back.
    seqs: Range<u64>,
    /// How many operations of it count.
    ops: u64,
    /// Bytes in which a bit had flipped, as they were: offsets and bytes.
    patches: Vec<(u64, u8)>,
    /// The number of its first line, where the line need not say.
    start: Option<u64>,
    /// Whether all of it had been synced.
    is_sealed: bool,
    /// Facts for the manifest, where it can stay as it is; otherwise its operations are copied to new logs.
    sound: Option<SealedLog>,
}

/// What becomes of an archive segment.
enum ArchivePlan {
    /// It stays as it is.
    Keep(ArchiveFacts),
    /// Its readable documents go to a new file.
    Rewrite {
        path: String,
        period: String,
        timestamp: String,
        documents: Vec<(String, String)>,
    },
}

impl RepairReport {
    fn sort_ids(&mut self) {
        for ids in [
            &mut self.lost,
            &mut self.doubtful,
            &mut self.differing,
            &mut self.recovered,
        ] {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    fn add(&mut self, path: &str, kind: DamageKind, part: Unreadable) {
        let place = DamageReport {
            path: path.to_owned(),
            offset: part.range.start,
            bytes: part.range.end.saturating_sub(part.range.start),
            kind,
            reason: part.reason,
        };
        let ids = part.ids;
        self.unreadable.push(UnreadablePart { place, ids });
    }
}

/// A part that is a whole file.
fn whole(bytes: u64, reason: &str) -> Unreadable {
    Unreadable {
        range: 0..bytes,
        reason: reason.to_owned(),
        ids: Vec::new(),
    }
}

type Ids = HashSet<String>;

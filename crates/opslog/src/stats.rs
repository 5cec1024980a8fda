//! Figures about an open store, and the facts of its manifest.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::format::manifest::Manifest;
use crate::open::read_manifest;
use crate::{Error, Result, time};

/// Figures about a store; see [`Store::stats`](crate::Store::stats).
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert_eq!(store.stats()?.active_documents, 1);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Documents in the active set.
    pub active_documents: u64,
    /// Operations since the last checkpoint.
    pub ops_since_checkpoint: u64,
    /// Documents in archive segments.
    pub archived_documents: u64,
    /// Number of archive segments.
    pub archive_segments: u64,
    /// Bytes of the current snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of operations in the active log.
    pub log_bytes: u64,
    /// Bytes of replaced logs that are kept for history.
    pub history_bytes: u64,
    /// Bytes of archive segments, where they are known.
    pub archive_bytes: u64,
    /// Bytes of ids and documents in memory.
    pub memory_bytes: u64,
    /// Parts of the log that were left out when the store was opened.
    pub damage: u64,
    /// The last checkpoint, if opslog made one.
    pub last_checkpoint: Option<CheckpointStats>,
}

/// When a checkpoint was made, and what it cost.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.compact()?;
/// let checkpoint = store.stats()?.last_checkpoint.expect("one was made");
/// assert!(checkpoint.bytes > 0);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// When it was finished.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Bytes of the snapshot that it wrote.
    pub bytes: u64,
}

/// What a manifest says; see [`Store::manifest`](crate::Store::manifest).
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// assert_eq!(store.manifest()?.version, 1);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestInfo {
    /// The version of the application's documents.
    pub version: u32,
    /// Path of the current snapshot in the store.
    pub current_snapshot: String,
    /// Path of the active log in the store.
    pub active_ops: String,
    /// Paths of replaced logs that are kept for history, oldest first.
    pub sealed_logs: Vec<String>,
    /// Paths of the archive segments.
    pub archive_segments: Vec<String>,
    /// Documents in the current snapshot.
    pub active_documents: u64,
    /// Documents in archive segments.
    pub archived_documents: u64,
    /// When the store was created.
    pub created: Timestamp,
    /// When the last checkpoint was made.
    pub last_checkpoint: Timestamp,
}

/// One of the agents that have written to a store; see [`Store::agents`](crate::Store::agents).
///
/// ```
/// use opslog::{MemoryBackend, Store};
/// let store: Store = Store::builder().agent_id("ann").open_backend(MemoryBackend::new())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let ann = &store.agents()?[0];
/// assert_eq!((ann.id.as_str(), ann.clock, ann.unfolded_ops), ("ann", 1, 1));
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentInfo {
    /// Its id.
    pub id: String,
    /// The greatest Lamport clock that was seen of it.
    pub clock: u64,
    /// Path of its log in the store; `None` when everything of it is in the snapshot and it has left.
    pub log: Option<String>,
    /// How many operations it has written so far.
    pub ops: u64,
    /// How many of them are not in the snapshot yet.
    pub unfolded_ops: u64,
    /// When it last wrote, or opened the store.
    pub last_seen: Timestamp,
}

impl<T: Document> Engine<T> {
    /// Every agent that has written to the store, by id, as far as this handle has looked.
    pub(crate) fn agents(&self) -> Result<Vec<AgentInfo>> {
        self.ensure_open()?;
        self.ensure_not_batching()?;
        let manifest = self.manifest();
        let others = lock(&self.others);
        let writer = lock(&self.writer);
        let agents = manifest.agents().map(|facts| {
            let own = self.agent.as_deref() == Some(&facts.id);
            let read = others.get(&*facts.id);
            let (next_seq, clock, millisecond) = match read {
                _ if own => (
                    writer.next_seq,
                    writer.clock.current(),
                    writer.last_millisecond,
                ),
                Some(position) => (
                    position.next_seq,
                    position.clock,
                    position.last_millisecond(),
                ),
                None => (facts.folded, facts.folded_clock, 0),
            };
            let registered = timestamp(&facts.seen)?;
            let wrote = Timestamp::from_millisecond(millisecond).unwrap_or(registered);
            Ok(AgentInfo {
                id: facts.id.clone(),
                clock: clock.max(facts.folded_clock),
                log: facts.log.clone(),
                ops: next_seq.max(facts.folded),
                unfolded_ops: next_seq.saturating_sub(facts.folded),
                last_seen: registered.max(wrote),
            })
        });
        agents.collect()
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        self.ensure_open()?;
        self.ensure_not_batching()?;
        let manifest = self.current_manifest()?;
        let ours = manifest.ours.clone().unwrap_or_default();
        let (others_ops, others_bytes) = self.agents_figures(&manifest)?;
        let (ops_since_checkpoint, log_bytes) = {
            let writer = lock(&self.writer);
            // A reader of agents' logs counts no log as its own.
            let own = if self.reads_agents() && self.agent.is_none() {
                0
            } else {
                writer.ops_since_checkpoint
            };
            (own + others_ops, writer.end + others_bytes)
        };
        let state = self.state();
        Ok(Stats {
            active_documents: state.len() as u64,
            ops_since_checkpoint,
            archived_documents: manifest.stats.archived_records,
            archive_segments: manifest.archive_segments.len() as u64,
            // Its file may be replaced at this moment; only of the reference's snapshots nothing else is known.
            snapshot_bytes: match ours.snapshot.bytes {
                0 => self.backend.open(&manifest.current_snapshot)?.size()?,
                bytes => bytes,
            },
            log_bytes,
            history_bytes: ours.sealed.iter().map(|log| log.bytes).sum(),
            archive_bytes: ours.archives.iter().map(|archive| archive.bytes).sum(),
            memory_bytes: state.resident_bytes(),
            damage: self.report.damage.len() as u64,
            last_checkpoint: ours.checkpoint.and_then(|cost| {
                Some(CheckpointStats {
                    at: time::parse_timestamp(&manifest.stats.last_checkpoint)?,
                    duration: Duration::from_millis(cost.millis),
                    bytes: cost.bytes,
                })
            }),
        })
    }

    /// Operations that are not in the snapshot, and bytes of their logs, of the other agents.
    fn agents_figures(&self, manifest: &Manifest) -> Result<(u64, u64)> {
        let (mut ops, mut bytes) = (0, 0);
        for agent in self.agents()? {
            if self.agent.as_deref() == Some(&agent.id) {
                continue;
            }
            ops += agent.unfolded_ops;
            let positions = lock(&self.others);
            let read = positions
                .get(&*agent.id)
                .map_or(0, |position| position.offset);
            bytes += if manifest.is_shared() { read } else { 0 };
        }
        Ok((ops, bytes))
    }

    pub(crate) fn manifest_info(&self) -> Result<ManifestInfo> {
        self.ensure_open()?;
        let manifest = self.current_manifest()?;
        let sealed = manifest.ours.iter().flat_map(|ours| &ours.sealed);
        Ok(ManifestInfo {
            version: manifest.version,
            current_snapshot: manifest.current_snapshot.clone(),
            active_ops: manifest.active_ops.clone(),
            sealed_logs: sealed.map(|log| log.path.clone()).collect(),
            archive_segments: manifest.archive_segments.clone(),
            active_documents: manifest.stats.active_records,
            archived_documents: manifest.stats.archived_records,
            created: timestamp(&manifest.stats.created)?,
            last_checkpoint: timestamp(&manifest.stats.last_checkpoint)?,
        })
    }

    /// The manifest as it is now: a reader looks at the storage, the writer knows it.
    pub(crate) fn current_manifest(&self) -> Result<Arc<Manifest>> {
        if (self.options.read_only || self.agent.is_some())
            && let Some(mut manifest) = read_manifest(&*self.backend)?
        {
            if manifest.ours.is_none() {
                manifest.ours.clone_from(&self.manifest().ours);
            }
            return Ok(Arc::new(manifest));
        }
        Ok(self.manifest())
    }
}

fn timestamp(text: &str) -> Result<Timestamp> {
    time::parse_timestamp(text)
        .ok_or_else(|| Error::corrupt(format!("the manifest's time '{text}' cannot be read")))
}

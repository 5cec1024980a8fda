//! Opening a store: lock, manifest, snapshot, log, repair, migration.
//!
//! Only a manifest that is *not found* means that there is no store, and only where no snapshot or log holds anything either; every other
//! failure to read is an error. A read-only open takes no lock and writes nothing.

use std::sync::Arc;

use crate::adopt::adopt;
use crate::agents::{self, Others};
use crate::backend::{Backend, Log};
use crate::checkpoint::{create_log, discard, nonce, put_manifest, write_snapshot};
use crate::document::Document;
use crate::engine::{Engine, Parts, Writer};
use crate::follow::Position;
use crate::format::manifest::{self, Manifest, Ours, Stats};
use crate::migrate::{migrate, migrated};
use crate::oplog::{DamageKind, Outcome};
use crate::options::Options;
use crate::recover::{LogDamage, keep_damaged_bytes, remove_leftovers, report};
use crate::replay::{Trust, replay_log};
use crate::state::{Stamps, State};
use crate::{Error, ErrorKind, Result, load, paths, time};

/// How often a reader starts over because a writer replaced the files it was about to read.
const READ_TRIES: usize = 20;

/// The documents and the end of the log, as they were read.
pub(crate) struct Loaded<T> {
    pub(crate) manifest: Manifest,
    pub(crate) state: State<T>,
    pub(crate) outcome: Outcome,
    pub(crate) position: Position,
    /// In a store of agents: how far their logs were read.
    pub(crate) others: Others,
    pub(crate) damage: Vec<LogDamage>,
    /// Whether opslog wrote the manifest last.
    pub(crate) ours: bool,
}

/// Opens the store on `backend`.
pub(crate) fn open<T: Document>(
    options: Options,
    backend: Arc<dyn Backend>,
) -> Result<Arc<Engine<T>>> {
    check_options(&options)?;
    let engine = match options.agent.clone() {
        _ if options.read_only => open_read_only(options, backend)?,
        Some(agent) => agents::open(options, backend, &agent)?,
        None => open_for_writing(options, backend)?,
    };
    let engine = Arc::new(engine);
    engine.background.attach(&engine);
    if engine.agent.is_none() {
        migrate(&engine)?;
    }
    Ok(engine)
}

fn check_options(options: &Options) -> Result<()> {
    if options.version == Some(0) {
        return Err(Error::invalid("a store's version must be at least 1"));
    }
    if options.read_only && options.skip_load {
        return Err(Error::invalid(
            "read_only and skip_load together leave nothing to do; choose one",
        ));
    }
    Ok(())
}

fn open_read_only<T: Document>(options: Options, backend: Arc<dyn Backend>) -> Result<Engine<T>> {
    let loaded = load_consistent(&options, &*backend)?;
    let report = report(&loaded.damage, &options)?;
    Ok(Engine::new(Parts {
        others: loaded.others,
        agent: None,
        writer: Writer {
            next_seq: loaded.outcome.next_seq,
            ops_since_checkpoint: loaded.outcome.count,
            end: loaded.outcome.end,
            ..Writer::new(loaded.manifest.active_ops.clone())
        },
        options,
        backend,
        report,
        state: loaded.state,
        manifest: loaded.manifest,
        position: loaded.position,
    }))
}

/// Reads the store beside a writer, which may replace the files between two reads: then it starts over.
pub(crate) fn load_consistent<T: Document>(
    options: &Options,
    backend: &dyn Backend,
) -> Result<Loaded<T>> {
    let mut tries = 0;
    loop {
        let manifest = read_manifest(backend)?.ok_or_else(|| no_store(backend))?;
        let result = load_all(options, backend, manifest.clone());
        tries += 1;
        match result {
            Err(error) if tries < READ_TRIES => {
                // Whatever went wrong, a manifest that is the same afterwards had nothing to do with it.
                if read_manifest(backend)?.as_ref() == Some(&manifest) {
                    return Err(missing_file_is_damage(error));
                }
            }
            result => {
                let mut loaded = result.map_err(missing_file_is_damage)?;
                if let Some(from) = options.older_version(&loaded.manifest) {
                    let mut state = State::with_capacity(0);
                    for document in migrated(options, from, loaded.state.freeze().iter()) {
                        state.put(document?, false);
                    }
                    if loaded.manifest.is_shared() {
                        // Without its stamps it would take no operation of an agent.
                        let Stamps { documents, deleted } = loaded.state.stamps();
                        let deleted = deleted.into_iter().collect();
                        state.stamp(documents, deleted).map_err(|documents| {
                            Error::corrupt(format!(
                                "there are {documents} documents, and not as many stamps"
                            ))
                        })?;
                    }
                    loaded.state = state;
                }
                return Ok(loaded);
            }
        }
    }
}

/// Why a store without a manifest cannot be opened: there is none, or its manifest was lost.
pub(crate) fn no_store(backend: &dyn Backend) -> Error {
    let lost = ensure_nothing_is_lost(backend).err();
    match lost.filter(|error| !error.is_not_found()) {
        // A writer may have created the store since the manifest was looked for.
        Some(error) if !matches!(read_manifest(backend), Ok(Some(_))) => error,
        _ => Error::not_found("there is no store here; open it for writing once to create it")
            .at_path(backend.location()),
    }
}

/// A file that the manifest names must be there.
pub(crate) fn missing_file_is_damage(error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound || error.path().is_none() {
        return error;
    }
    let path = error
        .path()
        .map(std::path::Path::to_path_buf)
        .unwrap_or_default();
    Error::corrupt(
        "a file that the manifest names is missing; restore it from a backup, nothing was changed",
    )
    .at_path(path)
    .caused_by(error)
}

fn open_for_writing<T: Document>(options: Options, backend: Arc<dyn Backend>) -> Result<Engine<T>> {
    if !options.create && read_manifest(&*backend)?.is_none() {
        return Err(no_store(&*backend));
    }
    backend.initialize()?;
    let lock = backend.lock()?;
    // Again, since a writer may have ended in between: what it left of names must be durable before anything is built on it.
    backend.initialize()?;
    let manifest = if let Some(manifest) = read_manifest(&*backend)? {
        manifest
    } else {
        let manifest = create(&*backend, &options)?;
        put_manifest(&*backend, &manifest)?;
        manifest
    };
    let mut loaded = load_all(&options, &*backend, manifest).map_err(missing_file_is_damage)?;
    let report = report(&loaded.damage, &options)?;
    if let Some(reason) = must_be_folded(&loaded) {
        loaded = fold(&options, &*backend, loaded, reason)?;
    }
    keep_damaged_bytes(
        &*backend,
        &loaded.manifest.active_ops,
        &loaded.outcome.damage,
    )?;
    let log = open_log(&*backend, &loaded.manifest.active_ops, &loaded.outcome)?;
    remove_leftovers(&*backend, &loaded);
    let writer = Writer {
        end: log.end(),
        log: Some(log),
        next_seq: loaded.outcome.next_seq,
        ops_since_checkpoint: loaded.outcome.count,
        last_millisecond: loaded.position.last_millisecond(),
        lock: Some(lock),
        ..Writer::new(loaded.manifest.active_ops.clone())
    };
    Ok(Engine::new(Parts {
        options,
        backend,
        report,
        state: loaded.state,
        manifest: loaded.manifest,
        writer,
        position: loaded.position,
        others: Others::new(),
        agent: None,
    }))
}

/// Why a single writer does not go on in the log as it is, if so.
///
/// That bytes are damage and not a torn write, only what lies behind them may tell, and that may be cut off, now or by an undo. So a damaged log is written to no more: in a
/// replaced one, all that is bad is damage.
fn must_be_folded<T>(loaded: &Loaded<T>) -> Option<&'static str> {
    if loaded.manifest.is_shared() {
        return Some(
            "agents have left operations that are not in the snapshot yet; open the store once without skip_load, or as an agent",
        );
    }
    let mut damage = loaded.damage.iter().map(|damage| damage.damage.kind);
    damage
        .any(|kind| kind == DamageKind::Damaged)
        .then_some("the log is damaged, and is to be replaced by a snapshot of what is left; open the store once without skip_load")
}

/// Puts everything into a new snapshot, with an empty log; the logs become history.
fn fold<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    loaded: Loaded<T>,
    reason: &str,
) -> Result<Loaded<T>> {
    if options.skip_load {
        return Err(Error::invalid(reason));
    }
    let before = loaded.manifest.clone();
    let (next, new_files) = agents::fold_all(backend, loaded, false)?;
    if let Err(error) = put_manifest(backend, &next) {
        // Which of the two is in place is not known; what neither names is removed by the next open.
        tracing::warn!(?new_files, "the logs could not be replaced by a snapshot");
        return Err(error);
    }
    for name in agents::no_longer_named(&before, &next) {
        discard(backend, &name);
    }
    load_all(options, backend, next).map_err(missing_file_is_damage)
}

/// Opens the log behind its last good line, cutting off what is torn, and terminates that line.
fn open_log(backend: &dyn Backend, name: &str, outcome: &Outcome) -> Result<Box<dyn Log>> {
    // A killed process, or one whose sync failed, may have left its last write in the system's cache only; what is shown from now on must stay.
    let mut log = backend.open_log(name, outcome.last_write, outcome.end)?;
    if !outcome.terminated {
        log.append(b"\n")?;
        log.sync()?;
    }
    Ok(log)
}

pub(crate) fn read_manifest(backend: &dyn Backend) -> Result<Option<Manifest>> {
    let bytes = match backend.read(paths::MANIFEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = manifest::decode(&bytes).map_err(|error| {
        let place = format!("{}/{}", backend.location(), paths::MANIFEST);
        error.at_path(place)
    })?;
    named_paths(&manifest).try_for_each(paths::validate_store_path)?;
    Ok(Some(manifest))
}

/// Every path in the manifest: each is one that the store may come to read, cut or remove.
pub(crate) fn named_paths(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let agents = manifest.active_agent_ops.iter().flatten();
    let ours = manifest.ours.iter();
    [&manifest.current_snapshot, &manifest.active_ops]
        .into_iter()
        .chain(agents.map(|(_, path)| path))
        .chain(&manifest.archive_segments)
        .chain(
            ours.clone()
                .flat_map(|ours| ours.sealed.iter().map(|log| &log.path)),
        )
        .chain(
            ours.clone()
                .flat_map(|ours| ours.archives.iter().map(|archive| &archive.path)),
        )
        .chain(ours.flat_map(|ours| ours.agents.iter().filter_map(|agent| agent.log.as_ref())))
        .map(String::as_str)
}

/// Makes an empty store but for the manifest that names its snapshot and log.
pub(crate) fn create(backend: &dyn Backend, options: &Options) -> Result<Manifest> {
    ensure_nothing_is_lost(backend)?;
    let version = options.version.unwrap_or(1);
    let residency = options.residency;
    let snapshot = write_snapshot::<()>(backend, None, version, residency, std::iter::empty())?;
    let (log_name, _log) = create_log(backend, None)?;
    let now = time::format_timestamp(time::now());
    let manifest = Manifest {
        version,
        current_snapshot: snapshot.name,
        active_ops: log_name,
        active_agent_ops: None,
        archive_segments: Vec::new(),
        stats: Stats {
            active_records: 0,
            archived_records: 0,
            ops_count: 0,
            created: now.clone(),
            last_checkpoint: now,
        },
        ours: Some(Ours {
            generation: 1,
            nonce: nonce(),
            snapshot: snapshot.facts,
            ..Ours::default()
        }),
    };
    Ok(manifest)
}

/// Without a manifest, snapshots and logs may only be the empty ones of a creation that a crash cut short, and there is no archive.
fn ensure_nothing_is_lost(backend: &dyn Backend) -> Result<()> {
    for prefix in [paths::SNAPSHOTS, paths::OPS, paths::ARCHIVE] {
        for object in backend.list(prefix)? {
            let name = &object.name;
            let lines_allowed = if paths::parse_snapshot(name).is_some() {
                1
            } else if paths::parse_ops(name).is_some()
                || paths::parse_agent_ops(name).is_some()
                || paths::parse_archive(name).is_some()
            {
                0
            } else {
                continue;
            };
            let content = load::read_all(&*backend.open(name)?)?;
            let lines = content
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.trim_ascii().is_empty());
            if lines.count() > lines_allowed {
                return Err(Error::corrupt(format!(
                    "the manifest is missing, but {name} holds data; restore manifest.json from a backup, or have `opslog repair` make one, nothing was changed"
                ))
                .at_path(format!("{}/{}", backend.location(), paths::MANIFEST)));
            }
        }
    }
    Ok(())
}

/// Reads snapshot and log.
pub(crate) fn load_all<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    mut manifest: Manifest,
) -> Result<Loaded<T>> {
    check_version(options, &manifest)?;
    let ours = manifest.ours.is_some();
    let shared = manifest.is_shared();
    if !ours && shared {
        return agents::load_reference(options, backend, manifest);
    }
    let has_stamps = manifest
        .ours
        .as_ref()
        .is_some_and(|ours| ours.stamps.is_some());
    if ours && (shared || options.agent.is_some() && has_stamps) {
        return agents::load(options, backend, manifest);
    }
    let mut state = if options.skip_load {
        State::default()
    } else {
        load::load(backend, &manifest, options)?
    };
    if !ours {
        manifest.ours = Some(adopt(backend, &manifest)?);
    }
    let mut read = replay_log(options, backend, &manifest, &mut state, Trust::Previous)?;
    if !read.0.damage.is_empty() && state.base().is_some() {
        // What is missing may be what a later line rests on.
        state = load::load(backend, &manifest, options)?;
        read = replay_log(options, backend, &manifest, &mut state, Trust::Nothing)?;
    }
    let (outcome, position) = read;
    Ok(Loaded {
        damage: LogDamage::all(&manifest.active_ops, &outcome),
        manifest,
        state,
        outcome,
        position,
        others: Others::new(),
        ours,
    })
}

pub(crate) fn check_version(options: &Options, manifest: &Manifest) -> Result<()> {
    match options.version {
        Some(version) if version < manifest.version => Err(Error::new(
            ErrorKind::UnsupportedVersion,
            format!(
                "the store has version {}, newer than the version {version} asked for; use a newer program",
                manifest.version
            ),
        )),
        Some(version) if version > manifest.version && options.skip_load => Err(Error::invalid(
            "a store cannot be migrated in skip_load mode; open it once without",
        )),
        _ => Ok(()),
    }
}

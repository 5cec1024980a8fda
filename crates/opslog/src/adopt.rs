//! A store that the reference wrote last: what its manifest would say if opslog had written it.

use crate::Result;
use crate::backend::Backend;
use crate::format::manifest::{ArchiveFacts, Manifest, Ours, SealedLog};
use crate::oplog::{self, Start};
use crate::paths;

/// What the manifest would say if opslog had written it: the reference's other logs are the history.
pub(crate) fn adopt(backend: &dyn Backend, manifest: &Manifest) -> Result<Ours> {
    let mut ours = Ours {
        archives: manifest
            .archive_segments
            .iter()
            .map(|path| unknown_archive(path))
            .collect(),
        ..Ours::default()
    };
    let Some(active) = paths::parse_ops(&manifest.active_ops) else {
        return Ok(ours);
    };
    let mut logs: Vec<(u64, String)> = backend
        .list(paths::OPS)?
        .into_iter()
        .filter_map(|object| Some((paths::parse_ops(&object.name)?, object.name)))
        .filter(|(milliseconds, _)| *milliseconds < active)
        .collect();
    logs.sort_unstable();
    for (_, path) in logs {
        ours.log_seq = adopt_log(backend, path, ours.log_seq, None, &mut ours)?;
    }
    ours.undo_floor = ours.log_seq;
    Ok(ours)
}

/// Makes a log that the reference has replaced history. Its first operation has the number `seq`; the answer is the number behind its last one.
pub(crate) fn adopt_log(
    backend: &dyn Backend,
    path: String,
    seq: u64,
    agent: Option<&str>,
    ours: &mut Ours,
) -> Result<u64> {
    let start = Start {
        position: 0,
        seq: None,
    };
    let mut last = None;
    let outcome = oplog::read(&*backend.open(&path)?, start, &mut |line| {
        last = Some(line.op.ts.to_owned());
        Ok(())
    })?;
    if outcome.count > 0 {
        ours.sealed.push(SealedLog {
            path,
            bytes: outcome.end,
            seq,
            ops: outcome.count,
            sealed_at: last.unwrap_or_default(),
            agent: agent.map(str::to_owned),
        });
    }
    Ok(seq + outcome.count)
}

/// An archive segment of which nothing is known but its name.
fn unknown_archive(path: &str) -> ArchiveFacts {
    ArchiveFacts {
        path: path.to_owned(),
        bytes: 0,
        crc: 0,
        documents: 0,
    }
}

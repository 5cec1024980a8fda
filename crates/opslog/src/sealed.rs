//! Keeping the number of replaced logs small: many short ones are copied into one.
//!
//! Each checkpoint replaces a log. Were they all kept as they are, the manifest, which lists them, would grow with every checkpoint, and writing it with
//! it. So when enough short logs have gathered at the end of the list, the checkpoint copies them into one, which its manifest names
//! in their place. Each operation is copied at most once a tier. Called by the checkpoint, before it takes the writer lock.

use crate::Result;
use crate::backend::{Backend, ObjectWriter};
use crate::checkpoint::discard;
use crate::format::manifest::SealedLog;
use crate::format::op_line;
use crate::history::Part;
use crate::oplog;
use crate::paths;

/// How many logs shorter than a tier's size are left alone.
const RUN: usize = 16;
/// Sizes in bytes below which logs are merged, smallest first.
const TIERS: [u64; 2] = [64 << 10, 1 << 20];
/// How many names are left free behind each log: those of the logs that it comes to be the newest part of.
pub(crate) const MERGES_MAX: u64 = 16;
/// Of these, one tier uses so many in turn, so that a name does not come again while somebody may be about to remove what had it before.
const TURNS: u64 = 7;

/// Several replaced logs as one.
pub(crate) struct Merged {
    pub(crate) replaced: Vec<String>,
    pub(crate) log: SealedLog,
}

/// Copies the newest replaced logs of `agent`, or of the single writer, into one log where there are many short ones. `before` is its active log, whose name must sort after the
/// new one's.
///
/// # Errors
///
/// Those of reading and writing; nothing is left behind then.
pub(crate) fn merge(
    backend: &dyn Backend,
    sealed: &[SealedLog],
    agent: Option<&str>,
    before: &str,
    turn: u64,
) -> Result<Option<Merged>> {
    // Logs of the single writer lie between those of agents, which are merged by clock when they are read: what is merged here must not reach across.
    let mine = sealed
        .iter()
        .rev()
        .take_while(|log| log.agent.is_some() == agent.is_some())
        .filter(|log| log.agent.as_deref() == agent);
    let mut mine: Vec<&SealedLog> = mine.collect();
    mine.reverse();
    let Some(run) = TIERS.iter().find_map(|tier| short_run(&mine, *tier)) else {
        return Ok(None);
    };
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(None);
    };
    // Its name sorts between those of its neighbours, and was never used: so far nothing but this function takes the names right behind a log's.
    let (Some(newest), Some(to)) = (began(&last.path), began(before)) else {
        return Ok(None);
    };
    let newest = newest + 1 + turn % TURNS;
    if newest >= to {
        return Ok(None);
    }
    let name = match agent {
        Some(agent) => paths::agent_ops(agent, newest),
        None => paths::ops(newest),
    };
    let mut file = backend.create(&name)?;
    let Some(bytes) = copy(backend, run, &mut *file)? else {
        return Ok(None);
    };
    file.finish()?;
    Ok(Some(Merged {
        replaced: run.iter().map(|log| log.path.clone()).collect(),
        log: SealedLog {
            path: name,
            bytes,
            seq: first.seq,
            ops: run.iter().map(|log| log.ops).sum(),
            sealed_at: last.sealed_at.clone(),
            agent: last.agent.clone(),
        },
    }))
}

fn began(log: &str) -> Option<u64> {
    paths::parse_ops(log).or_else(|| paths::parse_agent_ops(log).map(|(_, began)| began))
}

/// The logs at the end of the list that are all shorter than `tier`, where there are enough of them.
fn short_run<'a, 's>(sealed: &'a [&'s SealedLog], tier: u64) -> Option<&'a [&'s SealedLog]> {
    let length = sealed
        .iter()
        .rev()
        .take_while(|log| log.bytes < tier)
        .count();
    let run = sealed.get(sealed.len() - length..)?;
    let contiguous = run
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one.seq + one.ops == next.seq));
    (length >= RUN && contiguous).then_some(run)
}

/// Copies the operations; `None` where a log is damaged, which is then better kept as it is.
fn copy(
    backend: &dyn Backend,
    run: &[&SealedLog],
    file: &mut dyn ObjectWriter,
) -> Result<Option<u64>> {
    let mut bytes = 0;
    let mut lines = Vec::new();
    for log in run {
        let part = Part {
            name: log.path.clone(),
            agent: None,
            seq: log.seq,
            sealed: Some((log.ops, log.bytes)),
            settled_seq: u64::MAX,
        };
        let outcome = oplog::read_sealed(&*part.open(backend)?, log.seq, &mut |line| {
            let begin = lines.len();
            lines.extend_from_slice(op_line::body(line.raw));
            op_line::encode_trailer(&mut lines, begin, line.seq, 0);
            Ok(())
        })?;
        if !outcome.damage.is_empty() || outcome.count != log.ops {
            return Ok(None);
        }
        file.write(&lines)?;
        bytes += lines.len() as u64;
        lines.clear();
    }
    Ok(Some(bytes))
}

/// Puts the merged log in the place of those that it was copied from, and gives back the names of these. Where one of them is not listed any more, it is the merged log that is not needed.
pub(crate) fn replace(sealed: &mut Vec<SealedLog>, merged: &Merged) -> Vec<String> {
    let is_replaced = |log: &SealedLog| merged.replaced.contains(&log.path);
    let place = sealed.iter().position(is_replaced);
    let listed = sealed.iter().filter(|log| is_replaced(log)).count();
    let Some(place) = place.filter(|_| listed == merged.replaced.len()) else {
        return vec![merged.log.path.clone()];
    };
    sealed.retain(|log| !is_replaced(log));
    sealed.insert(place, merged.log.clone());
    merged.replaced.clone()
}

/// Removes a merged log that no manifest came to name.
pub(crate) fn abandon(backend: &dyn Backend, merged: Option<&Merged>) {
    if let Some(merged) = merged {
        discard(backend, &merged.log.path);
    }
}

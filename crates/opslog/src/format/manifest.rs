//! The manifest (`docs/format.md` §4), which names the current snapshot, the logs and the archive segments.
//!
//! Its checksum covers the whole file, and stays what it is in every version of the format: it is checked before anything else is believed.

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};

/// The version of our additions that this code writes, and the highest it reads.
const FORMAT: u64 = 1;

const CHECKSUM_KEY: &[u8] = b",\n  \"checksum\"";

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The store's schema version, at least 1.
    pub(crate) version: u32,
    pub(crate) current_snapshot: String,
    pub(crate) active_ops: String,
    /// Agents and their logs, in the order written.
    pub(crate) active_agent_ops: Option<Vec<(String, String)>>,
    pub(crate) archive_segments: Vec<String>,
    pub(crate) stats: Stats,
    /// `None` where the reference wrote the manifest.
    pub(crate) ours: Option<Ours>,
}

/// The reference's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) active_records: u64,
    pub(crate) archived_records: u64,
    pub(crate) ops_count: u64,
    pub(crate) created: String,
    pub(crate) last_checkpoint: String,
}

/// What opslog adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) generation: u64,
    pub(crate) nonce: String,
    pub(crate) snapshot: FileFacts,
    pub(crate) log_seq: u64,
    /// Oldest first.
    pub(crate) sealed: Vec<SealedLog>,
    pub(crate) archives: Vec<ArchiveFacts>,
    pub(crate) undo_floor: u64,
    pub(crate) checkpoint: Option<CheckpointCost>,
    /// At least the clock of every operation in the snapshot.
    pub(crate) clock: u64,
    /// What the snapshot's stamps file must be like, in a store of agents.
    pub(crate) stamps: Option<FileFacts>,
    /// Every agent that has written to the store, by id.
    pub(crate) agents: Vec<AgentFacts>,
}

impl Ours {
    /// Nothing of what agents wrote can be taken back: there are no stamps by which to tell who wrote last.
    pub(crate) fn bar_undo_of_agents(&mut self) {
        for agent in &mut self.agents {
            agent.undo_floor = agent.seq;
        }
    }
}

/// How far an agent's operations are in the snapshot, and where the others are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentFacts {
    pub(crate) id: String,
    /// Its operations from `folded` on have greater clocks.
    pub(crate) clock: u64,
    /// When it last wrote to the manifest.
    pub(crate) seen: String,
    /// `None` while it has no log.
    pub(crate) log: Option<String>,
    /// The number of the first operation of `log`, or of the next one it will begin.
    pub(crate) seq: u64,
    /// The number of its first operation that is not in the snapshot; it is in `log`, or will be.
    pub(crate) folded: u64,
    /// The clock of the operation before that.
    pub(crate) folded_clock: u64,
    /// Where that operation begins in `log`.
    pub(crate) offset: u64,
    /// Operations below this number cannot be undone.
    pub(crate) undo_floor: u64,
}

/// What the current snapshot must be like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) documents: u64,
}

/// A replaced log that still serves history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedLog {
    pub(crate) path: String,
    /// Only this many bytes of it count.
    pub(crate) bytes: u64,
    /// The number of its first operation.
    pub(crate) seq: u64,
    pub(crate) ops: u64,
    pub(crate) sealed_at: String,
    /// Whose it is; `None` for one of the single writer.
    pub(crate) agent: Option<String>,
}

/// What an archive segment must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveFacts {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) documents: u64,
}

/// What the last checkpoint cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckpointCost {
    pub(crate) millis: u64,
    pub(crate) bytes: u64,
}

/// The bytes of the file. Without [`Manifest::ours`] they are what the reference would write, without a checksum.
pub(crate) fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("version".to_owned(), manifest.version.into());
    object.insert(
        "currentSnapshot".to_owned(),
        manifest.current_snapshot.as_str().into(),
    );
    object.insert("activeOps".to_owned(), manifest.active_ops.as_str().into());
    if let Some(agents) = &manifest.active_agent_ops {
        let paths = agents
            .iter()
            .map(|(agent, path)| (agent.clone(), path.as_str().into()));
        object.insert("activeAgentOps".to_owned(), Value::Object(paths.collect()));
    }
    object.insert(
        "archiveSegments".to_owned(),
        manifest.archive_segments.as_slice().into(),
    );
    object.insert("stats".to_owned(), stats_value(&manifest.stats));
    if let Some(ours) = &manifest.ours {
        object.insert("opslog".to_owned(), ours_value(ours));
    }
    let mut out = serde_json::to_vec_pretty(&object)
        .expect("a tree of strings and integers is valid JSON and a vector takes every byte");
    if manifest.ours.is_some() {
        out.truncate(out.len().saturating_sub("\n}".len()));
        let trailer = checksum_trailer(&out);
        out.extend_from_slice(&trailer);
    }
    out
}

/// Reads and checks the file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest> {
    let value = parse(bytes)?;
    let root = root(&value)?;
    verify_checksum(bytes, &root)?;
    read(&root)
}

/// Reads a file whose checksum does not match: what it says must be compared with what is there.
pub(crate) fn decode_unchecked(bytes: &[u8]) -> Result<Manifest> {
    read(&root(&parse(bytes)?)?)
}

fn root(value: &Value) -> Result<Fields<'_>> {
    Ok(Fields {
        name: "the manifest".to_owned(),
        object: value
            .as_object()
            .ok_or_else(|| corrupt("it is not a JSON object"))?,
    })
}

fn read(root: &Fields<'_>) -> Result<Manifest> {
    let ours = match root.object.get("opslog") {
        Some(ours) => Some(read_ours(&Fields::of("opslog", ours)?)?),
        None => None,
    };
    let version = root.number("version")?;
    let stats = root.child("stats")?;
    Ok(Manifest {
        version: u32::try_from(version)
            .ok()
            .filter(|version| *version > 0)
            .ok_or_else(|| {
                corrupt(format!(
                    "version {version} is not a positive 32-bit integer"
                ))
            })?,
        current_snapshot: root.text("currentSnapshot")?,
        active_ops: root.text("activeOps")?,
        active_agent_ops: read_agents(root)?,
        archive_segments: root
            .list("archiveSegments")?
            .iter()
            .map(|path| {
                non_empty(path).ok_or_else(|| corrupt("archiveSegments must be non-empty strings"))
            })
            .collect::<Result<_>>()?,
        stats: Stats {
            active_records: stats.number("activeRecords")?,
            archived_records: stats.number("archivedRecords")?,
            ops_count: stats.number("opsCount")?,
            created: stats.text("created")?,
            last_checkpoint: stats.text("lastCheckpoint")?,
        },
        ours,
    })
}

fn stats_value(stats: &Stats) -> Value {
    json!({
        "activeRecords": stats.active_records,
        "archivedRecords": stats.archived_records,
        "opsCount": stats.ops_count,
        "created": stats.created,
        "lastCheckpoint": stats.last_checkpoint,
    })
}

fn ours_value(ours: &Ours) -> Value {
    let sealed = ours.sealed.iter().map(|log| {
        let mut value = json!({
            "path": log.path,
            "bytes": log.bytes,
            "seq": log.seq,
            "ops": log.ops,
            "sealed": log.sealed_at,
        });
        if let (Some(object), Some(agent)) = (value.as_object_mut(), &log.agent) {
            object.insert("agent".to_owned(), agent.as_str().into());
        }
        value
    });
    let archives = ours.archives.iter().map(|archive| {
        json!({
            "path": archive.path,
            "bytes": archive.bytes,
            "crc": hexadecimal(archive.crc),
            "documents": archive.documents,
        })
    });
    let mut value = json!({
        "format": FORMAT,
        "generation": ours.generation,
        "nonce": ours.nonce,
        "snapshot": file_value(&ours.snapshot),
        "log": { "seq": ours.log_seq },
        "sealed": sealed.collect::<Vec<_>>(),
        "archives": archives.collect::<Vec<_>>(),
        "undoFloor": ours.undo_floor,
    });
    let mut add = |key: &str, added: Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert(key.to_owned(), added);
        }
    };
    if let Some(cost) = ours.checkpoint {
        add(
            "checkpoint",
            json!({ "millis": cost.millis, "bytes": cost.bytes }),
        );
    }
    if ours.clock > 0 {
        add("clock", ours.clock.into());
    }
    if let Some(stamps) = &ours.stamps {
        add("stamps", file_value(stamps));
    }
    if !ours.agents.is_empty() {
        add("agents", ours.agents.iter().map(agent_value).collect());
    }
    value
}

fn file_value(file: &FileFacts) -> Value {
    json!({
        "bytes": file.bytes,
        "crc": hexadecimal(file.crc),
        "documents": file.documents,
    })
}

fn agent_value(agent: &AgentFacts) -> Value {
    json!({
        "id": agent.id,
        "clock": agent.clock,
        "seen": agent.seen,
        "log": agent.log,
        "seq": agent.seq,
        "folded": agent.folded,
        "foldedClock": agent.folded_clock,
        "offset": agent.offset,
        "undoFloor": agent.undo_floor,
    })
}

fn hexadecimal(checksum: u32) -> String {
    format!("{checksum:08x}")
}

/// What follows the bytes that the checksum covers.
fn checksum_trailer(covered: &[u8]) -> Vec<u8> {
    let mut trailer = CHECKSUM_KEY.to_vec();
    trailer.extend_from_slice(b": \"");
    super::write_checksum(&mut trailer, crc32c::crc32c(covered));
    trailer.extend_from_slice(b"\"\n}");
    trailer
}

fn parse(bytes: &[u8]) -> Result<Value> {
    if bytes.trim_ascii().is_empty() {
        return Err(corrupt("it is empty"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| corrupt("it is not UTF-8").caused_by(error))?;
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_eof() {
            "it is cut off"
        } else {
            "it is not JSON"
        };
        let line = u64::try_from(error.line()).unwrap_or_default();
        corrupt(format!("{what}: {error}"))
            .at_line(line)
            .caused_by(error)
    })
}

fn verify_checksum(bytes: &[u8], root: &Fields<'_>) -> Result<()> {
    if !root.object.contains_key("checksum") {
        // The reference drops both keys together, so one without the other is a changed file.
        return match root.object.get("opslog") {
            Some(_) => Err(corrupt("its checksum is missing")),
            None => Ok(()),
        };
    }
    let start = memchr::memmem::rfind(bytes, CHECKSUM_KEY)
        .ok_or_else(|| corrupt("its checksum is not where opslog writes it"))?;
    let (covered, trailer) = bytes.split_at_checked(start).unwrap_or((bytes, b""));
    if trailer.trim_ascii_end() == checksum_trailer(covered) {
        return Ok(());
    }
    Err(corrupt("its checksum does not match its content"))
}

fn read_agents(root: &Fields<'_>) -> Result<Option<Vec<(String, String)>>> {
    if !root.object.contains_key("activeAgentOps") {
        return Ok(None);
    }
    let agents = root.child("activeAgentOps")?;
    agents
        .object
        .keys()
        .map(|agent| Ok((agent.clone(), agents.text(agent)?)))
        .collect::<Result<_>>()
        .map(Some)
}

fn read_ours(fields: &Fields<'_>) -> Result<Ours> {
    let format = fields.number("format")?;
    if format > FORMAT {
        return Err(Error::new(
            ErrorKind::UnsupportedVersion,
            format!(
                "the store has format {format}, and this opslog reads up to {FORMAT}; use a newer one"
            ),
        ));
    }
    Ok(Ours {
        generation: fields.number("generation")?,
        nonce: fields.text("nonce")?,
        snapshot: read_file(&fields.child("snapshot")?)?,
        log_seq: fields.child("log")?.number("seq")?,
        sealed: fields.each("sealed", |log| {
            Ok(SealedLog {
                path: log.text("path")?,
                bytes: log.number("bytes")?,
                seq: log.number("seq")?,
                ops: log.number("ops")?,
                sealed_at: log.text("sealed")?,
                agent: log.optional("agent", Fields::text)?,
            })
        })?,
        archives: fields.each("archives", |archive| {
            Ok(ArchiveFacts {
                path: archive.text("path")?,
                bytes: archive.number("bytes")?,
                crc: archive.checksum("crc")?,
                documents: archive.number("documents")?,
            })
        })?,
        undo_floor: fields.number("undoFloor")?,
        checkpoint: fields.optional("checkpoint", |fields, key| {
            let cost = fields.child(key)?;
            Ok(CheckpointCost {
                millis: cost.number("millis")?,
                bytes: cost.number("bytes")?,
            })
        })?,
        clock: fields.optional("clock", Fields::number)?.unwrap_or(0),
        stamps: fields.optional("stamps", |fields, key| read_file(&fields.child(key)?))?,
        agents: fields
            .optional("agents", |fields, key| {
                fields.each(key, |agent| read_agent(&agent))
            })?
            .unwrap_or_default(),
    })
}

fn read_file(file: &Fields<'_>) -> Result<FileFacts> {
    Ok(FileFacts {
        bytes: file.number("bytes")?,
        crc: file.checksum("crc")?,
        documents: file.number("documents")?,
    })
}

fn read_agent(agent: &Fields<'_>) -> Result<AgentFacts> {
    let (seq, folded) = (agent.number("seq")?, agent.number("folded")?);
    if folded < seq {
        return Err(corrupt(format!(
            "folded in {} must not be below seq",
            agent.name
        )));
    }
    Ok(AgentFacts {
        id: agent.text("id")?,
        clock: agent.number("clock")?,
        seen: agent.text("seen")?,
        log: agent.optional("log", Fields::text)?,
        seq,
        folded,
        folded_clock: agent.number("foldedClock")?,
        offset: agent.number("offset")?,
        undo_floor: agent.number("undoFloor")?,
    })
}

/// An object in the manifest, which names itself and the field in its errors.
struct Fields<'a> {
    name: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(name: impl Into<String>, value: &'a Value) -> Result<Self> {
        let name = name.into();
        match value.as_object() {
            Some(object) => Ok(Self { name, object }),
            None => Err(corrupt(format!("{name} must be an object"))),
        }
    }

    fn get<T>(
        &self,
        field: &str,
        must_be: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let name = &self.name;
        let value = self
            .object
            .get(field)
            .ok_or_else(|| corrupt(format!("{field} is missing in {name}")))?;
        read(value).ok_or_else(|| corrupt(format!("{field} in {name} must be {must_be}")))
    }

    fn text(&self, field: &str) -> Result<String> {
        self.get(field, "a non-empty string", non_empty)
    }

    fn number(&self, field: &str) -> Result<u64> {
        self.get(field, "a non-negative integer", Value::as_u64)
    }

    fn checksum(&self, field: &str) -> Result<u32> {
        self.get(field, "eight lowercase hexadecimal digits", |value| {
            super::read_checksum(value.as_str()?.as_bytes())
        })
    }

    fn list(&self, field: &str) -> Result<&'a Vec<Value>> {
        self.get(field, "an array", Value::as_array)
    }

    /// `None` where the field is missing or null.
    fn optional<T>(
        &self,
        field: &str,
        read: impl Fn(&Self, &str) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => read(self, field).map(Some),
        }
    }

    fn child(&self, field: &str) -> Result<Self> {
        let object = self.get(field, "an object", Value::as_object)?;
        Ok(Self {
            name: field.to_owned(),
            object,
        })
    }

    fn each<T>(&self, field: &str, read: impl Fn(Self) -> Result<T>) -> Result<Vec<T>> {
        self.list(field)?
            .iter()
            .enumerate()
            .map(|(index, value)| read(Self::of(format!("{field}[{index}]"), value)?))
            .collect()
    }
}

fn non_empty(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn corrupt(reason: impl std::fmt::Display) -> Error {
    Error::corrupt(format!(
        "the manifest is damaged: {reason}; restore it from a backup"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Manifest {
        Manifest {
            version: 1,
            current_snapshot: "snapshots/snap-1.jsonl".to_owned(),
            active_ops: "ops/ops-2.jsonl".to_owned(),
            active_agent_ops: None,
            archive_segments: vec!["archive/archive-2026-Q4.json".to_owned()],
            stats: Stats {
                active_records: 10,
                archived_records: 3,
                ops_count: 7,
                created: "2026-01-01T00:00:00.000Z".to_owned(),
                last_checkpoint: "2026-01-02T00:00:00.000Z".to_owned(),
            },
            ours: Some(Ours {
                generation: 7,
                nonce: "0123456789abcdef".to_owned(),
                snapshot: FileFacts {
                    bytes: 2048,
                    crc: 0xab,
                    documents: 10,
                },
                log_seq: 120,
                sealed: vec![SealedLog {
                    path: "ops/ops-1.jsonl".to_owned(),
                    bytes: 8080,
                    seq: 0,
                    ops: 120,
                    sealed_at: "2026-01-01T00:00:00.000Z".to_owned(),
                    agent: None,
                }],
                archives: vec![ArchiveFacts {
                    path: "archive/archive-2026-Q4.json".to_owned(),
                    bytes: 512,
                    crc: u32::MAX,
                    documents: 3,
                }],
                undo_floor: 4,
                checkpoint: Some(CheckpointCost {
                    millis: 12,
                    bytes: 2048,
                }),
                ..Ours::default()
            }),
        }
    }

    #[test]
    fn the_file_looks_as_documented() {
        let text = String::from_utf8(encode(&sample())).expect("UTF-8");
        assert!(text.starts_with("{\n  \"version\": 1,\n  \"currentSnapshot\": \"snapshots/snap-1.jsonl\",\n  \"activeOps\""), "{text}");
        assert!(
            text.contains("\n  \"opslog\": {\n    \"format\": 1,\n    \"generation\": 7,\n"),
            "{text}"
        );
        assert!(text.contains("\"crc\": \"000000ab\""), "{text}");
        let covered = text.rfind(",\n  \"checksum\"").expect("a checksum");
        let checksum = crc32c::crc32c(&text.as_bytes()[..covered]);
        assert!(
            text.ends_with(&format!("  }},\n  \"checksum\": \"{checksum:08x}\"\n}}")),
            "{text}"
        );
    }

    #[test]
    fn decoding_undoes_encoding() {
        let mut manifest = sample();
        for agents in [
            None,
            Some(vec![]),
            Some(vec![
                ("b".to_owned(), "p".to_owned()),
                ("a".to_owned(), "q".to_owned()),
            ]),
        ] {
            manifest.active_agent_ops = agents;
            assert_eq!(decode(&encode(&manifest)).expect("valid"), manifest);
        }
        manifest.ours = Some(Ours {
            nonce: "n".to_owned(),
            ..Ours::default()
        });
        assert_eq!(decode(&encode(&manifest)).expect("valid"), manifest);
        manifest.ours = None;
        assert_eq!(decode(&encode(&manifest)).expect("valid"), manifest);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let bytes = encode(&sample());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for place in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[place / 8] ^= 1 << (place % 8);
            let error = decode(&changed).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {place}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_as_such() {
        let text = String::from_utf8(encode(&sample())).expect("UTF-8");
        let covered = text.rfind(",\n  \"checksum\"").expect("a checksum");
        let mut newer = text[..covered]
            .replace("\"format\": 1", "\"format\": 2")
            .into_bytes();
        let trailer = checksum_trailer(&newer);
        newer.extend(trailer);
        assert_eq!(
            decode(&newer).expect_err("refused").kind(),
            ErrorKind::UnsupportedVersion
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut manifest = sample();
        manifest.ours = None;
        let text = String::from_utf8(encode(&manifest)).expect("UTF-8");
        for (from, to, reason) in [
            (
                "\"opsCount\": 7",
                "\"opsCount\": -7",
                "opsCount in stats must be a non-negative integer",
            ),
            (
                "\"opsCount\": 7",
                "\"opsCount\": 7.5",
                "opsCount in stats must be a non-negative integer",
            ),
            (
                "\"opsCount\": 7",
                "\"opsKount\": 7",
                "opsCount is missing in stats",
            ),
            ("\"version\": 1", "\"version\": 0", "version"),
            ("\"version\": 1", "\"version\": 4294967296", "version"),
            (
                "\"ops/ops-2.jsonl\"",
                "\"\"",
                "activeOps in the manifest must be a non-empty string",
            ),
            (
                "\"stats\": {",
                "\"opslog\": {}, \"stats\": {",
                "checksum is missing",
            ),
            ("\"version\"", "version", "not JSON"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            let error = decode(changed.as_bytes()).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(
            decode(b" \n")
                .expect_err("refused")
                .to_string()
                .contains("empty")
        );
        assert!(
            decode(b"{\"version\":")
                .expect_err("refused")
                .to_string()
                .contains("cut off")
        );
        let tolerated = text.replace("\"stats\": {", "\"other\": [1], \"stats\": {");
        assert_eq!(decode(tolerated.as_bytes()).expect("valid"), manifest);
    }

    proptest! {
        #[test]
        fn nothing_makes_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}

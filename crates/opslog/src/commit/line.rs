//! One line of a commit.

use super::Draft;
use super::stamp::Stamped;
use crate::delta;
use crate::document::Stored;
use crate::engine::Group;
use crate::format::op_line::{self, BatchMark, OpKind, OpLine, Origin, Prev};
use crate::merge::Stamp;

/// One line of a commit, to be encoded.
pub(super) struct Line<'a, T> {
    pub(super) ts: &'a str,
    pub(super) draft: &'a Draft<T>,
    pub(super) before: Option<&'a Stored<T>>,
    pub(super) batch: Option<BatchMark>,
    pub(super) blind: bool,
    pub(super) undo: bool,
    pub(super) agent: Option<(&'a str, &'a Stamped)>,
}

impl<T> Line<'_, T> {
    fn origin(&self) -> Origin<'_> {
        let Some((_, stamped)) = self.agent else {
            return Origin::default();
        };
        Origin {
            takes: stamped.takes.as_ref().map(Stamp::text),
            born: stamped.born.as_ref().map(Stamp::text),
            over: stamped.over.as_ref().map(Stamp::text),
        }
    }

    /// `prev_text` is scratch space.
    pub(super) fn encode(&self, group: &mut Group<T>, seq: u64, prev_text: &mut Vec<u8>) {
        let data = self.draft.document().map(Stored::data);
        prev_text.clear();
        let is_delta = match (self.before, data) {
            (Some(before), Some(data)) => delta::encode_reverse(before.data(), data, prev_text),
            _ => false,
        };
        let prev = match self.before {
            Some(_) if is_delta => {
                Prev::Delta(std::str::from_utf8(prev_text).expect("a patch is made of UTF-8 text"))
            }
            Some(before) => Prev::Full(before.data()),
            None => Prev::None,
        };
        let body_start = group.bytes.len();
        op_line::encode_body(
            &mut group.bytes,
            &OpLine {
                ts: self.ts,
                kind: if data.is_some() {
                    OpKind::Set
                } else {
                    OpKind::Delete
                },
                id: self.draft.id().into(),
                prev,
                data,
                agent: self.agent.map(|(agent, _)| agent.into()),
                clock: self.agent.map(|(_, stamped)| stamped.clock),
                blind: self.blind,
                undo: self.undo,
                batch: self.batch,
                origin: self.origin(),
                seq: None,
                at: None,
            },
        );
        op_line::encode_trailer(&mut group.bytes, body_start, seq, group.at);
    }
}

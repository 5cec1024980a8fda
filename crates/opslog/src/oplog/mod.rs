//! Reading an op log: its lines, the judgement of what is damaged, and commits from the newest back.

mod backward;
mod lines;
mod rot;
mod tail;

pub(crate) use backward::Backward;
pub(crate) use lines::Lines;
pub(crate) use rot::{SEARCHED_MAX, flipped_bit};
pub use tail::DamageKind;
pub(crate) use tail::{Damage, Outcome, Start, read, read_sealed, read_until_padding};

use crate::format::op_line::OpLine;

/// One good line of a log.
pub(crate) struct LogLine<'a> {
    /// The line's bytes, without its newline.
    pub(crate) raw: &'a [u8],
    /// Where it begins in the log.
    pub(crate) offset: u64,
    /// The number of the operation in the store.
    pub(crate) seq: u64,
    pub(crate) op: OpLine<'a>,
}

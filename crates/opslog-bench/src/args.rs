//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Result;
use crate::subjects::PEERS;

#[allow(clippy::struct_excessive_bools)] // They are switches.
/// Measures opslog beside its peers and the machine's own limit, interleaved in one run.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Peers to run: `all`, `none`, or some of reference, sqlite, redb, fjall, lmdb.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub(crate) peers: Vec<String>,

    /// Small sizes and few rounds: to see that everything runs, not to quote.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Run only this workload, such as P5; may be given more than once.
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) only: Vec<String>,

    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print what `docs/performance.md` contains: versions, a table of all goals, then the tables of each workload.
    #[arg(long, conflicts_with_all = ["json", "growth"])]
    pub(crate) markdown: bool,

    /// Size of every workload, in documents or operations, instead of its own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub(crate) size: Option<u32>,

    /// Rounds, instead of 5 (2 with --quick, 3 with --growth).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,

    /// Instead of comparing: how opslog's figures grow from 1,000 to 1,000,000 documents, or to --size.
    #[arg(long)]
    pub(crate) growth: bool,

    /// Where data directories are made, and removed afterwards: on a real disk. Default: beside the program, in the target directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) dir: Option<PathBuf>,

    /// The part of one child process, as JSON.
    #[arg(long, hide = true)]
    pub(crate) child: Option<String>,
}

impl Arguments {
    /// How many rounds to run.
    pub(crate) fn rounds(&self) -> u32 {
        let usual = match (self.quick, self.growth) {
            (true, _) => 2,
            (false, true) => 3,
            (false, false) => 5,
        };
        self.rounds.unwrap_or(usual)
    }

    /// The names of the peers to run.
    pub(crate) fn peers(&self) -> Result<Vec<&'static str>> {
        let mut chosen = Vec::new();
        for name in &self.peers {
            match PEERS.iter().find(|peer| *peer == name) {
                Some(peer) => chosen.push(*peer),
                None if name == "all" => chosen.extend(PEERS),
                None if name == "none" => {}
                None => {
                    return Err(format!(
                        "there is no peer '{name}'; choose from {}, all, none",
                        PEERS.join(", ")
                    )
                    .into());
                }
            }
        }
        Ok(chosen)
    }
}

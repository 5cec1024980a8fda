//! What can be asked for on the command line.

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::failure::{Failure, STATUS_HELP, Status};

/// The heading of the options that every command has.
const GLOBAL: &str = "Options of every command";

const ABOUT: &str = "Import, query, undo and inspect opslog stores.

On a terminal the output is tables and colour; into a pipe, or with --json, it is JSON Lines, with document text as it is stored. \
Commands that only read take no lock and work beside a live writer.";

const ABOUT_IMPORT: &str =
    "Import documents from JSON Lines or a JSON array; creates the store if need be.

The input is checked to its end before anything is written: one bad line, and nothing is imported, unless --skip-bad is given. \
It is then written in batches. Each is one commit: whole or not at all, on stable storage before the next one begins, and taken back by one undo. \
So a crash, or an interrupt, leaves whole batches; --atomic makes it all or nothing there too. \
Of the input, one batch at a time is in memory. The standard input, or a pipe, goes through a temporary file. A document whose id is known is updated.";

const ABOUT_QUERY: &str =
    "Print the documents that a jq expression picks, or what it makes of them.

The language is jq's, as jaq speaks it; '.' is the document and '$id' its id. A document is picked if the first output is neither false nor null. \
An expression that fails on a document ends the command: put '?' behind what may fail.";

const ABOUT_UNDO: &str = "Take back the last commit; a batch, such as an import makes, is one.

A commit that no checkpoint has sealed yet is cut off the log: 'history' and 'log' no longer show it. One that a checkpoint has sealed is taken back by a new commit, \
and they show both. A command that changes a small store makes a checkpoint as it ends, so there it is the second that happens.

Called again and again, it goes back to the first kept commit, but not behind an archive (of a single writer), a migration or a repair. With --agent it takes back that agent's own commits, \
as far as the last checkpoint of a single writer; a document that another agent has written since, or that was archived, stays as it is, which is said. \
Without, it takes back what single writers have written since an agent last opened the store.";

const ABOUT_ARCHIVE: &str = "Move documents out of the active set into an archive segment.

It cannot be undone. A single writer's 'undo' does not go behind an archive, neither for these documents nor for others; an agent's passes over the documents that were archived. It writes no operation, so 'log' and 'history' do not show it. \
'opslog segments NAME --json | opslog import -' brings the documents of a segment back; they stay in the segment, too.";

const ABOUT_VERIFY: &str = "Check every file of the store and say what is damaged.

Reads the manifest, the snapshot, the log, the replaced logs that are kept for history, and the archive segments, and names each damaged part by file and byte. \
A write that a crash cut short before it was acknowledged is listed as torn: the next writer cuts it off, and it is no damage. Changes nothing. Exits with 5 if anything is damaged.";

const ABOUT_REPAIR: &str = "Make a damaged store whole again, from what is readable of it.

Reads the snapshot, the logs and the archive segments, also when the manifest is lost, and writes a new snapshot of all that can be told. Every operation carries a checksum; \
so where the snapshot is damaged, the operations say which documents are right, and give back those that are lost. What is replaced or left out is kept beside, in files that end in \
.damaged. Says which parts were unreadable, by file and byte, which documents were recovered, which are doubtful, and which are lost. Does nothing to a store that is sound. \
Of a store of agents it merges what is readable, the greatest stamp winning. Refuses while a writer or an agent has the store open. Exits with 10 if documents were lost. Afterwards undo does not reach behind the repair.";

const ABOUT_BACKUP: &str = "Copy the store, blobs included, to a directory; a writer may go on meanwhile.

The copy is the store as it was at one moment, with whole batches; it is on stable storage, and was read again and found sound, when the command ends. It is a store itself: any command works on it, \
and 'restore' brings it back. A damaged store is not copied.";

const ABOUT_RESTORE: &str = "Bring a backup back, to where --data says.

Refuses where there are files already, unless --replace is given: then the directory that is there is renamed first, and kept. The copy is complete and checked before that. \
Refuses while a writer has the store open.";

const EXAMPLES: &str = "Examples:
  opslog --data ./packages import --id package packages.jsonl
  opslog --data ./packages query '.installed_kib > 20000 and .section == \"games\"'
  opslog --data ./packages count --where section=editors
  opslog --data ./packages undo
  opslog --data ./packages log --follow
  opslog --data ./packages backup ./packages-backup";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "opslog", version, about = "Import, query, undo and inspect opslog stores", long_about = ABOUT)]
#[command(after_help = STATUS_HELP, after_long_help = format!("{EXAMPLES}\n\n{STATUS_HELP}"))]
#[command(propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The store's directory
    #[arg(short, long, value_name = "DIR", env = "OPSLOG_DIR", hide_env_values = true, global = true, help_heading = GLOBAL, value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,

    /// Write as this agent, beside other agents on the same store
    #[arg(long, value_name = "ID", env = "OPSLOG_AGENT", hide_env_values = true, global = true, help_heading = GLOBAL)]
    agent: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The store, for a command that changes it.
    pub(crate) fn target(&self) -> Result<Target<'_>, Failure> {
        Ok(Target {
            directory: self.directory()?,
            agent: self.agent.as_deref().filter(|agent| !agent.is_empty()),
        })
    }

    /// The store's directory, which every command but `completions` needs.
    pub(crate) fn directory(&self) -> Result<&Path, Failure> {
        match &self.data {
            Some(directory) if !directory.as_os_str().is_empty() => Ok(directory),
            _ => Err(Failure::new(Status::Usage, "no store was named")
                .with_hint("give --data DIR, or set OPSLOG_DIR to the store's directory")),
        }
    }
}

/// Commands that have the store to themselves, or change nothing in it, and so would do nothing with an agent's id.
const NO_AGENT: [&str; 4] = ["verify", "repair", "backup", "restore"];

/// Refuses an agent's id that was given to a command which would ignore it. That of the environment is meant for others.
pub(crate) fn refuse_needless_agent(matches: &ArgMatches) -> Result<(), Failure> {
    let given = matches.value_source("agent") == Some(ValueSource::CommandLine);
    match matches.subcommand_name() {
        Some(name) if given && NO_AGENT.contains(&name) => {
            let message = format!("'{name}' is not done as an agent");
            Err(Failure::new(Status::Usage, message).with_hint("leave out --agent"))
        }
        _ => Ok(()),
    }
}

/// The store that is to be changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) directory: &'a Path,
    /// Under which id to write, beside other agents.
    pub(crate) agent: Option<&'a str>,
}

/// How to write what was found.
#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Write JSON, one value a line, also on a terminal
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    /// Write tables and sentences, also into a pipe
    #[arg(long, global = true, help_heading = GLOBAL, conflicts_with = "json")]
    pub(crate) table: bool,

    /// When to use colour; `auto` honours `NO_COLOR`
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub(crate) color: ColorWhen,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import documents from JSON Lines or a JSON array; creates the store if need be
    #[command(long_about = ABOUT_IMPORT)]
    Import(ImportOptions),
    /// Write all documents as JSON Lines, in insertion order
    Export(ExportOptions),
    /// Print one document
    Get(GetOptions),
    /// Create, replace or amend one document; creates the store if need be
    Set(SetOptions),
    /// Delete documents: all that are named, or, if one does not exist, none
    Delete(DeleteOptions),
    /// List documents, in insertion order
    List(ListOptions),
    /// Print the documents that a jq expression picks, or what it makes of them
    #[command(long_about = ABOUT_QUERY)]
    Query(QueryOptions),
    /// Print how many documents there are
    Count(CountOptions),
    /// Show the operations of one document, oldest first
    History(HistoryOptions),
    /// Take back the last commit; a batch, such as an import makes, is one
    #[command(long_about = ABOUT_UNDO)]
    Undo(UndoOptions),
    /// Show operations, oldest first, and follow a live writer
    Log(LogOptions),
    /// Make a checkpoint: a new snapshot and a new log
    Compact,
    /// Move documents out of the active set into an archive segment
    #[command(long_about = ABOUT_ARCHIVE)]
    Archive(ArchiveOptions),
    /// List the archive segments, or print the documents of one
    Segments(SegmentsOptions),
    /// Show figures about the store
    Stats,
    /// List the agents that have written to the store: clock, operations not in the snapshot yet, last seen
    Agents,
    /// Check every file of the store and say what is damaged
    #[command(long_about = ABOUT_VERIFY)]
    Verify,
    /// Make a damaged store whole again, from what is readable of it
    #[command(long_about = ABOUT_REPAIR)]
    Repair(RepairOptions),
    /// Copy the store to a directory, while it is written to or not
    #[command(long_about = ABOUT_BACKUP)]
    Backup(BackupOptions),
    /// Bring a backup back, to where --data says
    #[command(long_about = ABOUT_RESTORE)]
    Restore(RestoreOptions),
    /// Print the completions script for a shell
    Completions(CompletionsOptions),
}

/// `opslog import`.
#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// The file to read; `-` is the standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// The field whose string or integer is the id; without it the input is what `export` prints, `{"id":…,"data":{…}}`
    #[arg(long, value_name = "FIELD")]
    pub(crate) id: Option<String>,

    /// Import the good lines and report the others
    #[arg(long)]
    pub(crate) skip_bad: bool,

    /// How many documents to write in one commit
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: u32,

    /// Write everything in one commit, held in memory: one undo takes it back
    #[arg(long, conflicts_with = "batch_size")]
    pub(crate) atomic: bool,
}

/// Which documents a command is about.
#[derive(Debug, Args)]
pub(crate) struct SelectionOptions {
    /// A jq expression over the document (`.`) and its id (`$id`); it picks those whose first output is neither false nor null
    #[arg(value_name = "EXPR")]
    pub(crate) expression: Option<String>,

    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

/// `FIELD=VALUE`, as it was given.
#[derive(Debug, Clone)]
pub(crate) struct FieldValue {
    pub(crate) field: String,
    pub(crate) value: String,
}

impl FromStr for FieldValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((field, value)) if !field.is_empty() => Ok(Self {
                field: field.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected FIELD=VALUE".to_owned()),
        }
    }
}

/// The conditions of `--where`.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Pick documents whose field has this value; `a.b` looks into objects, a list matches by any of its elements; may be repeated, all must hold
    #[arg(short = 'w', long = "where", value_name = "FIELD=VALUE")]
    pub(crate) conditions: Vec<FieldValue>,
}

/// `opslog export`.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
}

/// `opslog get`.
#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    /// The document's id
    pub(crate) id: String,
}

/// `opslog set`.
#[derive(Debug, Args)]
pub(crate) struct SetOptions {
    /// The document's id
    pub(crate) id: String,

    /// The whole document, as JSON; `-` reads it from the standard input
    #[arg(
        value_name = "JSON",
        required_unless_present = "fields",
        conflicts_with = "fields"
    )]
    pub(crate) document: Option<String>,

    /// Change one field and leave the others; VALUE is JSON, or else a string; `a.b` looks into objects; may be repeated
    #[arg(short, long = "field", value_name = "FIELD=VALUE")]
    pub(crate) fields: Vec<FieldValue>,
}

/// `opslog delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteOptions {
    /// The documents' ids
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,

    /// Pass over ids that do not exist
    #[arg(long)]
    pub(crate) ignore_missing: bool,
}

/// The number of `--limit`, where 0 means all.
fn parse_limit(text: &str) -> Result<usize, ParseIntError> {
    let limit = text.parse()?;
    Ok(if limit == 0 { usize::MAX } else { limit })
}

/// Which part of a list to show.
#[derive(Debug, Args)]
pub(crate) struct Page {
    /// Show at most this many; 0 shows all [default: 50 in a table, otherwise all]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_limit)]
    pub(crate) limit: Option<usize>,

    /// Columns of a table: fields, such as `name` or `size.width`
    #[arg(short, long, value_name = "FIELD", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
}

/// `opslog list`.
#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) conditions: Conditions,

    #[command(flatten)]
    pub(crate) page: Page,
}

/// `opslog query`.
#[derive(Debug, Args)]
pub(crate) struct QueryOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    #[command(flatten)]
    pub(crate) page: Page,

    /// Print all that EXPR yields for each document, instead of the documents that it picks
    #[arg(short, long, requires = "expression")]
    pub(crate) map: bool,

    /// With --map: print strings without their quotes
    #[arg(short, long, requires = "map")]
    pub(crate) raw: bool,
}

/// `opslog count`.
#[derive(Debug, Args)]
pub(crate) struct CountOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
}

/// `opslog history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryOptions {
    /// The document's id
    pub(crate) id: String,
}

/// `opslog undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoOptions {
    /// How many commits to take back
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

/// `opslog log`.
#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Only what came after this: a time (2026-01-31, 2026-01-31T12:00:00Z), an age (90m, 2d), or the cursor of an operation
    #[arg(long, value_name = "TIME|CURSOR")]
    pub(crate) since: Option<String>,

    /// Only the newest COUNT operations; 0 shows all [default: 10 with --follow, otherwise all]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_limit)]
    pub(crate) limit: Option<usize>,

    /// Go on, and show what a live writer writes, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// `opslog archive`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    /// The segment's name [default: the present quarter, such as 2026-Q4]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) segment: Option<String>,

    /// Archive every document
    #[arg(long, conflicts_with_all = ["expression", "conditions"])]
    pub(crate) all: bool,
}

/// `opslog segments`.
#[derive(Debug, Args)]
pub(crate) struct SegmentsOptions {
    /// Print the documents of this segment
    pub(crate) segment: Option<String>,

    #[command(flatten)]
    pub(crate) page: Page,
}

/// `opslog repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairOptions {
    /// Say what would be done, and change nothing; exits with 5 if there is damage
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// `opslog backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// The directory to copy to; it must be empty or not exist
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
}

/// `opslog restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The directory with the backup
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) from: PathBuf,

    /// Rename the directory that is there, and keep it
    #[arg(long)]
    pub(crate) replace: bool,
}

/// `opslog completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}

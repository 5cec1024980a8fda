//! `opslog import`: everything is checked first, then written in batches, each of which is one commit.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::{ImportOptions, Target};
use crate::failure::{Failure, Status, note, warn};
use crate::input::{Document, Identity, Input, NOT_EXPORTED};
use crate::open::{self, Documents};
use crate::output::Output;

/// How many bad lines are shown one by one.
const BAD_SHOWN: u64 = 20;
/// Bytes of documents after which a batch is written, however few they are.
const BATCH_BYTES: usize = 32 << 20;

/// What has been written.
#[derive(Default)]
struct Counts {
    imported: u64,
    updated: u64,
    skipped: u64,
    commits: u64,
}

pub(crate) fn run(
    target: Target<'_>,
    options: &ImportOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    // A pipe is read to its end first: a slow producer must not hold up other writers.
    let input = Input::open(&options.file)?;
    // A store in use is noticed before the work is done, and a new one is not made before the input is known to be good.
    let existing = match open::write(target) {
        Ok(store) => Some(store),
        Err(failure) if failure.status() == Status::NotFound => None,
        Err(failure) => return Err(failure),
    };
    let identity = match &options.id {
        Some(field) => Identity::Field(field.clone()),
        None => Identity::Exported,
    };
    let bad = check(&input, &identity, options.skip_bad)?;
    let store = match existing {
        Some(store) => store,
        None => open::write_or_create(target)?,
    };
    let mut counts = Counts::default();
    write(&store, &input, &identity, options, &mut counts)
        .map_err(|failure| halfway(failure, &counts, target.agent))?;
    open::close(&store);
    debug_assert_eq!(bad, counts.skipped, "both passes read the same input");
    report(&counts, target.agent, output)
}

/// Reads everything once. Says what is bad, and how much it is; that is a failure unless it is to be skipped.
fn check(input: &Input, identity: &Identity, skip_bad: bool) -> Result<u64, Failure> {
    let (mut total, mut bad, mut shown, mut id_needed) = (0_u64, 0_u64, 0_u64, false);
    let bar = progress(input, "checking");
    input.read(identity, |file| bar.wrap_read(file), &mut |item| {
        total += 1;
        if let Err(reason) = &item.document {
            bad += 1;
            // That the id's field was not named is true of every line, and said once.
            let again = std::mem::replace(&mut id_needed, reason == NOT_EXPORTED) && id_needed;
            if shown < BAD_SHOWN && !again {
                shown += 1;
                bar.suspend(|| warn(&format!("{}: line {}: {reason}", input.name, item.line)));
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if bad > shown {
        warn(&format!("and {} more", bad - shown));
    }
    if bad > 0 && !skip_bad {
        let hint = match identity {
            Identity::Exported if bad == total => {
                "if the id is in a field of the document, name it with --id FIELD"
            }
            _ if bad == total => "mend the input",
            _ => "mend the input, or import the rest with --skip-bad",
        };
        let verb = if bad == 1 { "is" } else { "are" };
        let message = format!("{bad} of {total} {verb} bad; nothing was imported");
        return Err(Failure::invalid(message).with_hint(hint));
    }
    Ok(bad)
}

/// Reads everything again and writes it, a batch at a time.
fn write(
    store: &Documents,
    input: &Input,
    identity: &Identity,
    options: &ImportOptions,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let (most, most_bytes) = if options.atomic {
        (usize::MAX, usize::MAX)
    } else {
        let most = usize::try_from(options.batch_size).unwrap_or(usize::MAX);
        (most, BATCH_BYTES)
    };
    let mut waiting: Vec<Document> = Vec::new();
    let mut bytes = 0;
    let bar = progress(input, "importing");
    input.read(identity, |file| bar.wrap_read(file), &mut |item| {
        match item.document {
            Ok(document) => {
                bytes += document.text.len();
                waiting.push(document);
            }
            Err(_) if options.skip_bad => counts.skipped += 1,
            Err(reason) => return Err(changed(input, item.line, &reason)),
        }
        if waiting.len() >= most || bytes >= most_bytes {
            commit(store, &mut waiting, counts)?;
            bytes = 0;
        }
        Ok(())
    })?;
    commit(store, &mut waiting, counts)?;
    bar.finish_and_clear();
    Ok(())
}

fn changed(input: &Input, line: u64, reason: &str) -> Failure {
    Failure::new(
        Status::Conflict,
        format!(
            "{} was changed while it was imported: line {line}: {reason}",
            input.name
        ),
    )
}

/// The same failure, with how much of the import is in the store, and how to take it back.
fn halfway(failure: Failure, counts: &Counts, agent: Option<&str>) -> Failure {
    if counts.commits == 0 {
        return failure;
    }
    failure.with_hint(format!(
        "{} documents are in; '{}' takes them back",
        counts.imported + counts.updated,
        undo_of(counts, agent)
    ))
}

/// The command that takes the import back.
fn undo_of(counts: &Counts, agent: Option<&str>) -> String {
    let agent = agent.map_or_else(String::new, |agent| format!(" --agent {agent}"));
    let count = match counts.commits {
        1 => String::new(),
        commits => format!(" -n {commits}"),
    };
    format!("opslog{agent} undo{count}")
}

/// Writes what waits as one commit.
fn commit(
    store: &Documents,
    waiting: &mut Vec<Document>,
    counts: &mut Counts,
) -> Result<(), Failure> {
    if waiting.is_empty() {
        return Ok(());
    }
    let new = store.batch(|batch| {
        let mut new = 0;
        for document in waiting.iter() {
            new += u64::from(!batch.has(&document.id)?);
            batch.set_json(&document.id, &document.text)?;
        }
        Ok(new)
    })?;
    counts.imported += new;
    counts.updated += waiting.len() as u64 - new;
    counts.commits += 1;
    waiting.clear();
    Ok(())
}

fn report(counts: &Counts, agent: Option<&str>, output: &mut Output) -> Result<(), Failure> {
    let Counts {
        imported,
        updated,
        skipped,
        commits,
    } = counts;
    let sentence = format!("imported {imported}, updated {updated}, skipped {skipped}");
    let facts =
        json!({"imported": imported, "updated": updated, "skipped": skipped, "commits": commits});
    output.outcome(&sentence, &facts)?;
    if output.is_table() && *commits > 0 {
        output.flush()?;
        note(&format!(
            "'{}' takes this import back",
            undo_of(counts, agent)
        ));
    }
    Ok(())
}

/// A progress bar on the standard error, if that is a terminal.
fn progress(input: &Input, doing: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(input.size);
    let style = "{prefix:>9} [{wide_bar}] {bytes}/{total_bytes} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(doing);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

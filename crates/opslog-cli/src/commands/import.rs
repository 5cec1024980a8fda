//! `opslog import`: everything is checked first, then written in batches, each of which is one commit.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::{ImportOptions, Target};
use crate::failure::{Failure, Status, note, warn};
use crate::input::{Document, Identity, Input};
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
    let counts = write(&store, &input, &identity, options)?;
    open::close(&store);
    debug_assert_eq!(bad, counts.skipped, "both passes read the same input");
    report(&counts, output)
}

/// Reads everything once. Says what is bad, and how much it is; that is a failure unless it is to be skipped.
fn check(input: &Input, identity: &Identity, skip_bad: bool) -> Result<u64, Failure> {
    let (mut total, mut bad) = (0_u64, 0_u64);
    let bar = progress(input, "checking");
    input.read(identity, |file| bar.wrap_read(file), &mut |item| {
        total += 1;
        if let Err(reason) = &item.document {
            bad += 1;
            if bad <= BAD_SHOWN {
                bar.suspend(|| warn(&format!("{}: line {}: {reason}", input.name, item.line)));
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if bad > BAD_SHOWN {
        warn(&format!("and {} more", bad - BAD_SHOWN));
    }
    if bad > 0 && !skip_bad {
        return Err(Failure::invalid(format!(
            "{bad} of {total} {} bad; nothing was imported",
            if bad == 1 { "is" } else { "are" }
        ))
        .with_hint("mend the input, or import the rest with --skip-bad"));
    }
    Ok(bad)
}

/// Reads everything again and writes it, a batch at a time.
fn write(
    store: &Documents,
    input: &Input,
    identity: &Identity,
    options: &ImportOptions,
) -> Result<Counts, Failure> {
    let (most, most_bytes) = if options.atomic {
        (usize::MAX, usize::MAX)
    } else {
        let most = usize::try_from(options.batch_size).unwrap_or(usize::MAX);
        (most, BATCH_BYTES)
    };
    let mut counts = Counts::default();
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
            Err(reason) => return Err(changed(input, item.line, &reason, &counts)),
        }
        if waiting.len() >= most || bytes >= most_bytes {
            commit(store, &mut waiting, &mut counts)?;
            bytes = 0;
        }
        Ok(())
    })?;
    commit(store, &mut waiting, &mut counts)?;
    bar.finish_and_clear();
    Ok(counts)
}

fn changed(input: &Input, line: u64, reason: &str, counts: &Counts) -> Failure {
    Failure::new(
        Status::Conflict,
        format!(
            "{} was changed while it was imported: line {line}: {reason}",
            input.name
        ),
    )
    .with_hint(format!(
        "{} documents are in; 'opslog undo -n {}' takes them back",
        counts.imported + counts.updated,
        counts.commits
    ))
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

fn report(counts: &Counts, output: &mut Output) -> Result<(), Failure> {
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
        let count = if *commits == 1 {
            String::new()
        } else {
            format!(" -n {commits}")
        };
        note(&format!("'opslog undo{count}' takes this import back"));
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

//! `opslog log`: operations as they were committed, and those that a live writer adds.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use opslog::{Cursor, OpKind, Operation, Since, Tail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::LogOptions;
use crate::failure::{Failure, Status, note};
use crate::open;
use crate::output::{BAD, FAINT, GOOD, Output, json_string, shorten};

/// How many operations `--follow` begins with.
const FOLLOW_LIMIT: usize = 10;
/// How often a live writer's log is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn run(
    directory: &Path,
    options: &LogOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let since = match &options.since {
        Some(text) => parse_since(text)?,
        None => Since::Start,
    };
    let store = open::read(directory)?;
    let operations = store.ops(since.clone())?;
    let default = if options.follow && options.since.is_none() {
        FOLLOW_LIMIT
    } else {
        usize::MAX
    };
    let limit = options.limit.unwrap_or(default);
    let passed = operations.len().saturating_sub(limit);
    for operation in operations.iter().skip(passed) {
        print(operation, output)?;
    }
    if !options.follow {
        return Ok(());
    }
    let mut last = match (operations.last(), &since) {
        (Some(operation), _) => Some(operation.cursor.clone()),
        (None, Since::Cursor(cursor)) => Some(cursor.clone()),
        (None, _) => None,
    };
    drop(operations);
    loop {
        output.flush()?;
        let tail = store.tail()?;
        follow(&tail, &since, &mut last, output)?;
        output.flush()?;
        if has_no_reader() {
            return Err(Failure::ClosedPipe);
        }
        thread::sleep(INTERVAL);
    }
}

/// Whether whoever read the standard output has gone: a pipe tells that unasked only when it is written to.
fn has_no_reader() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let answered = poll(&mut polled, Some(&Timespec::default()));
    let gone = PollFlags::ERR | PollFlags::HUP;
    answered.is_ok() && polled.iter().any(|fd| fd.revents().intersects(gone))
}

/// Prints what came, but for what was printed before.
fn follow(
    tail: &Tail,
    since: &Since,
    last: &mut Option<Cursor>,
    output: &mut Output,
) -> Result<(), Failure> {
    if tail.rewound {
        note(
            "the writer took operations back, or archived documents; what was shown may no longer hold",
        );
    }
    let known = tail
        .operations
        .iter()
        .position(|operation| Some(&operation.cursor) == last.as_ref());
    let new = known.map_or(0, |position| position + 1);
    for operation in tail.operations.iter().skip(new) {
        *last = Some(operation.cursor.clone());
        let early = matches!(since, Since::Time(time) if operation.ts <= *time);
        if !early {
            print(operation, output)?;
        }
    }
    Ok(())
}

/// Prints one operation: as a line to read, or as the line of the log with its cursor.
pub(crate) fn print(operation: &Operation, output: &mut Output) -> Result<(), Failure> {
    if !output.is_table() {
        let line = operation.to_json();
        let line = line.strip_suffix('}').unwrap_or(&line);
        let cursor = json_string(&operation.cursor.to_string());
        return output.line(&format!("{line},\"cursor\":{cursor}}}"));
    }
    let (word, style) = match (operation.kind, &operation.prev) {
        _ if operation.changes_nothing() => ("no effect", FAINT),
        (OpKind::Delete, _) => ("delete", BAD),
        (OpKind::Set, None) if !operation.blind => ("create", GOOD),
        (OpKind::Set, _) => ("update", anstyle::Style::new()),
    };
    let cursor = operation.cursor.to_string();
    let time = format!("{:.3}", operation.ts);
    let undo = if operation.undo { " (undo)" } else { "" };
    let place = operation.batch.map_or_else(String::new, |(index, count)| {
        format!(" ({} of {count})", index + 1)
    });
    let marks = format!("{undo}{place}");
    let used = cursor.len() + time.len() + word.len() + operation.id.len() + marks.len() + 8;
    let left = output.width().saturating_sub(used);
    let data = operation
        .data
        .as_ref()
        .map(|data| shorten(data.as_str(), left))
        .unwrap_or_default();
    let line = format!(
        "{}  {}  {}  {}{}  {data}",
        output.paint(FAINT, &cursor),
        output.paint(FAINT, &time),
        output.paint(style, word),
        shorten(&operation.id, 200),
        output.paint(FAINT, &marks),
    );
    output.line(line.trim_end())
}

/// A cursor, a time, a date, or an age.
fn parse_since(text: &str) -> Result<Since, Failure> {
    if let Ok(cursor) = text.parse::<Cursor>() {
        return Ok(Since::Cursor(cursor));
    }
    let time = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| in_utc(text.parse::<DateTime>().ok()?))
        .or_else(|| in_utc(text.parse::<Date>().ok()?.at(0, 0, 0, 0)))
        .or_else(|| ago(text.parse::<Span>().ok()?));
    time.map(Since::Time).ok_or_else(|| {
        Failure::new(
            Status::Usage,
            format!("'{text}' is neither a time nor a cursor"),
        )
        .with_hint("a time is 2026-01-31, 2026-01-31T12:00:00Z (both UTC), or an age such as 90m or 2d; a cursor is 42-0123abcd")
    })
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The time that lies `span` back; a span with "ago" is negative already.
fn ago(span: Span) -> Option<Timestamp> {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_ages_and_cursors_are_told_apart() {
        let time = |text| match parse_since(text) {
            Ok(Since::Time(time)) => time.to_string(),
            other => panic!("{text} gave {other:?}"),
        };
        assert_eq!(time("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(time("2026-01-31T12:00:00+01:00"), "2026-01-31T11:00:00Z");
        assert_eq!(time("2026-01-31T12:00:00"), "2026-01-31T12:00:00Z");
        assert!(time("2d") < time("90m"));
        assert!(matches!(parse_since("7-0123abcd"), Ok(Since::Cursor(_))));
        assert!(parse_since("yesterday-ish").is_err());
    }
}

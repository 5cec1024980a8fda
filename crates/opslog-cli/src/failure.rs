//! What ends a command early, and the exit status that tells a script so.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use opslog::ErrorKind;

/// The table of exit statuses, as `--help` shows it.
pub(crate) const STATUS_HELP: &str = "\
Exit status:
  0  done (also when the reader of a pipe went away)
  1  not found: no such document, segment or store; nothing to undo
  2  the command line is wrong
  3  invalid input: bad JSON, a bad line, an expression that fails
  4  locked: another process is writing
  5  corrupt: something in the store is damaged
  6  unavailable: the storage refuses (full disk, no permission)
  7  the store was written by a newer version
  8  conflict: what the command relied on was changed meanwhile
  9  anything else
  10 repaired, but documents were lost";

/// The exit status of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Done = 0,
    NotFound = 1,
    Usage = 2,
    InvalidInput = 3,
    Locked = 4,
    Corrupt = 5,
    Unavailable = 6,
    UnsupportedVersion = 7,
    Conflict = 8,
    Other = 9,
    Lost = 10,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::InvalidInput => Self::InvalidInput,
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Unavailable | ErrorKind::Poisoned => Self::Unavailable,
            ErrorKind::UnsupportedVersion => Self::UnsupportedVersion,
            ErrorKind::Conflict => Self::Conflict,
            _ => Self::Other,
        }
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store refused.
    Store(opslog::Error),
    /// Whoever read the output has gone: there is nobody left to tell.
    ClosedPipe,
    /// Anything that the command itself found out.
    Stated {
        status: Status,
        message: String,
        hint: Option<String>,
    },
}

impl Failure {
    /// A failure with the exit status `status`; `message` is lowercase and has no full stop.
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self::Stated {
            status,
            message: message.into(),
            hint: None,
        }
    }

    /// The input is not acceptable.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidInput, message)
    }

    /// The same failure, with what to do about it.
    pub(crate) fn with_hint(self, text: impl Into<String>) -> Self {
        let status = self.status();
        let message = match self {
            Self::Store(error) => error.to_string(),
            Self::Stated { message, .. } => message,
            Self::ClosedPipe => return self,
        };
        Self::Stated {
            status,
            message,
            hint: Some(text.into()),
        }
    }

    /// A failed read of the user's file `name`.
    pub(crate) fn reading(name: &str, error: &io::Error) -> Self {
        let status = match error.kind() {
            io::ErrorKind::NotFound => Status::NotFound,
            _ => Status::Unavailable,
        };
        Self::new(status, format!("cannot read {name}: {error}"))
    }

    /// A failed write to the standard output.
    pub(crate) fn writing(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::new(
            Status::Unavailable,
            format!("cannot write the output: {error}"),
        )
    }

    /// The exit status.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Store(error) => error.kind().into(),
            Self::ClosedPipe => Status::Done,
            Self::Stated { status, .. } => *status,
        }
    }

    /// Tells the user, and gives the exit status.
    pub(crate) fn report(&self) -> Status {
        let (message, hint) = match self {
            Self::ClosedPipe => return self.status(),
            Self::Store(error) => (error.to_string(), hint_for(error.kind())),
            Self::Stated { message, hint, .. } => (message.clone(), hint.as_deref()),
        };
        complain("error", AnsiColor::Red, &message);
        if let Some(hint) = hint {
            complain("hint", AnsiColor::Cyan, hint);
        }
        self.status()
    }
}

impl From<opslog::Error> for Failure {
    fn from(error: opslog::Error) -> Self {
        Self::Store(error)
    }
}

/// Says on the standard error what did not stop the command.
pub(crate) fn warn(message: &str) {
    complain("warning", AnsiColor::Yellow, message);
}

/// Says on the standard error what is good to know.
pub(crate) fn note(message: &str) {
    complain("note", AnsiColor::Cyan, message);
}

fn complain(label: &str, color: AnsiColor, message: &str) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    let message = crate::output::printable(message);
    // Nothing can be done about a standard error that cannot be written to.
    let _ = writeln!(anstream::stderr(), "{style}{label}:{style:#} {message}");
}

fn hint_for(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Locked => Some(
            "wait until the other writer is done; commands that only read work beside it at any time",
        ),
        ErrorKind::Corrupt => Some(
            "'opslog verify' lists everything that is damaged; restore a backup, or save what is readable with 'opslog repair'",
        ),
        ErrorKind::UnsupportedVersion => Some("install a newer opslog"),
        ErrorKind::Poisoned => Some("check the disk, then run the command again"),
        _ => None,
    }
}

//! The process that writes until it dies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opslog::{Store, WriteMode};

use crate::model::{Commit, Mode, Plan, Said, Thread};
use crate::{Outcome, USAGE};

/// How many commits the modes that buffer make between two flushes.
const FLUSHED_EVERY: u64 = 20;

/// `write DIRECTORY SEED CYCLE THREADS MODE`
pub(crate) fn run(words: &[String]) -> Outcome {
    let [directory, seed, cycle, threads, mode] = words else {
        return Err(USAGE.into());
    };
    let mode = Mode::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == *mode)
        .ok_or(USAGE)?;
    let plan = Plan {
        seed: seed.parse()?,
        cycle: cycle.parse()?,
        threads: threads.parse()?,
        mode,
    };
    let store = open(Path::new(directory), mode)?;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..plan.threads)
            .map(|number| {
                scope.spawn({
                    let store = store.clone();
                    move || write(&store, plan, number).map_err(|fault| fault.to_string())
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| {
            handle
                .join()
                .map_err(|_| "a writer panicked")?
                .map_err(Into::into)
        })
    })
}

pub(crate) fn open(directory: &Path, mode: Mode) -> Outcome<Store> {
    let builder = Store::builder()
        .checkpoint_threshold(70)
        .os_buffered(mode == Mode::OsBuffered)
        .write_mode(match mode {
            Mode::Immediate | Mode::OsBuffered => WriteMode::Immediate,
            Mode::Group => WriteMode::group(),
            Mode::Async => WriteMode::asynchronous(),
        });
    Ok(builder.open(directory)?)
}

/// Makes commits for ever. A line `? THREAD` goes before each, and `! THREAD COUNT` follows when that many are durable.
fn write(store: &Store, plan: Plan, number: u64) -> Outcome {
    let mut thread = Thread::new(plan, number);
    let durable = matches!(plan.mode, Mode::Immediate | Mode::OsBuffered);
    for made in 1.. {
        tell(&format!("? {number}"))?;
        let commit = thread.next();
        apply(store, &commit)?;
        let settled = match commit {
            Commit::Undo | Commit::Checkpoint => true,
            Commit::Put(_) | Commit::Delete(_) => durable,
        };
        if !settled && made % FLUSHED_EVERY == 0 {
            store.flush()?;
        }
        if settled || made % FLUSHED_EVERY == 0 {
            tell(&format!("! {number} {made}"))?;
        }
    }
    Ok(())
}

pub(crate) fn apply(store: &Store, commit: &Commit) -> Result<(), opslog::Error> {
    match commit {
        Commit::Put(puts) => match &puts[..] {
            [(id, value)] => store.set(id, value),
            puts => {
                store.batch(|batch| puts.iter().try_for_each(|(id, value)| batch.set(id, value)))
            }
        },
        Commit::Delete(id) => store.delete(id),
        Commit::Undo => store.undo().map(drop),
        Commit::Checkpoint => store.compact(),
    }
}

fn tell(line: &str) -> Outcome {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// A writer that is running.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    plan: Plan,
}

impl Running {
    pub(crate) fn start(directory: &Path, plan: Plan) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("write")
            .arg(directory)
            .args([plan.seed, plan.cycle, plan.threads].map(|number| number.to_string()))
            .arg(format!("{:?}", plan.mode))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, plan })
    }

    /// Waits until the writer has something to lose, and then for `more`.
    pub(crate) fn wait(&mut self, more: Duration) -> Outcome<Vec<String>> {
        let first = self
            .lines
            .recv_timeout(Duration::from_mins(1))
            .map_err(|_| "the writer wrote nothing")?;
        std::thread::sleep(more);
        Ok(vec![first])
    }

    /// What the writer has said by now.
    pub(crate) fn heard(&self) -> impl Iterator<Item = String> {
        self.lines.try_iter()
    }

    /// Kills the writer and hears what else it has said: whether that counts as acknowledged is in `credible`.
    pub(crate) fn kill(mut self, heard: Vec<String>, credible: bool) -> Outcome<Vec<Said>> {
        // It may have ended by itself, when its file system went away.
        drop(self.child.kill());
        self.child.wait()?;
        let mut said = vec![Said::default(); usize::try_from(self.plan.threads)?];
        let late = self
            .lines
            .iter()
            .filter(|line| credible || line.starts_with('?'));
        for line in heard.into_iter().chain(late) {
            let mut words = line.split(' ');
            let mark = words.next();
            let Some(said) = words
                .next()
                .and_then(|number| said.get_mut(number.parse::<usize>().ok()?))
            else {
                continue;
            };
            match mark {
                Some("?") => said.tried += 1,
                Some("!") => said.acknowledged = words.next().unwrap_or_default().parse()?,
                _ => {}
            }
        }
        Ok(said)
    }
}

/// A directory for the store in `place`.
pub(crate) fn store_in(place: &Path) -> PathBuf {
    place.join("store")
}

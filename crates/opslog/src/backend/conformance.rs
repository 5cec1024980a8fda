//! What every [`Backend`] must do: one check for each promise of the trait's documentation.
//!
//! Run it in the tests of every backend and wrapper. What only a crash shows is tested on the simulated disk.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Backend, Expected, Version};
use crate::{Error, ErrorKind, Result};

type Check = fn(&dyn Backend) -> Result<()>;

/// Checks every promise of [`Backend`], each on a new and empty backend from `make`.
///
/// # Panics
///
/// When a promise is broken, saying which.
pub fn check(make: impl Fn() -> Box<dyn Backend>) {
    let checks: [Check; 14] = [
        missing_names_are_not_found,
        put_replaces_the_whole_content,
        reads_are_short_at_the_end_only,
        open_objects_keep_their_content,
        list_finds_what_begins_with_the_prefix,
        delete_is_idempotent,
        put_if_changes_nothing_on_conflict,
        put_if_lets_one_of_many_win,
        created_objects_appear_when_finished,
        created_objects_do_not_replace,
        logs_append_and_truncate,
        logs_are_reopened_at_their_end,
        created_logs_do_not_replace,
        the_lock_is_exclusive,
    ];
    for check in checks {
        let backend = make();
        backend
            .initialize()
            .and_then(|()| check(&*backend))
            .expect("a promise of `Backend` is broken");
    }
}

fn kind_of<T>(answer: Result<T>) -> Option<ErrorKind> {
    answer.err().as_ref().map(Error::kind)
}

fn names(backend: &dyn Backend, prefix: &str) -> Result<Vec<(String, u64)>> {
    let mut names: Vec<_> = backend
        .list(prefix)?
        .into_iter()
        .filter(|object| !object.name.starts_with('.'))
        .map(|object| (object.name, object.size))
        .collect();
    names.sort();
    Ok(names)
}

/// The log's content as its readers see it: without the padding.
fn appended(backend: &dyn Backend, name: &str) -> Result<Vec<u8>> {
    let mut content = backend.read(name)?;
    let padding = content.iter().rev().take_while(|byte| **byte == b'\n');
    content.truncate(content.len() - padding.count());
    Ok(content)
}

fn missing_names_are_not_found(backend: &dyn Backend) -> Result<()> {
    backend.put("folder/there", b"x")?;
    backend.put("file", b"x")?;
    for name in [
        "missing",
        "ops/missing",
        "folder",
        "folder/missing",
        "a/b/c",
        "file/below",
    ] {
        let expected = Some(ErrorKind::NotFound);
        assert_eq!(kind_of(backend.read(name)), expected, "read {name}");
        assert_eq!(
            kind_of(backend.read_at(name, 0, &mut [0])),
            expected,
            "read_at {name}"
        );
        assert_eq!(
            kind_of(backend.read_at(name, 0, &mut [])),
            expected,
            "empty read_at {name}"
        );
        assert_eq!(kind_of(backend.open(name)), expected, "open {name}");
        assert_eq!(
            kind_of(backend.read_version(name)),
            expected,
            "read_version {name}"
        );
        assert_eq!(
            kind_of(backend.open_log(name, 0, 0)),
            expected,
            "open_log {name}"
        );
    }
    Ok(())
}

fn put_replaces_the_whole_content(backend: &dyn Backend) -> Result<()> {
    backend.put("manifest.json", b"a long first content")?;
    assert_eq!(backend.read("manifest.json")?, b"a long first content");
    backend.put("manifest.json", b"short")?;
    assert_eq!(backend.read("manifest.json")?, b"short");
    backend.put("deeply/nested/blob", b"")?;
    assert_eq!(backend.read("deeply/nested/blob")?, b"");
    backend.put("ops/\u{e4} b", "\u{e4}".as_bytes())?;
    assert_eq!(backend.read("ops/\u{e4} b")?, "\u{e4}".as_bytes());
    Ok(())
}

fn reads_are_short_at_the_end_only(backend: &dyn Backend) -> Result<()> {
    backend.put("ten", b"0123456789")?;
    let object = backend.open("ten")?;
    assert_eq!(object.size()?, 10);
    for (offset, length, expected) in [
        (0_u64, 10, &b"0123456789"[..]),
        (0, 4, b"0123"),
        (8, 4, b"89"),
        (10, 4, b""),
        (11, 4, b""),
        (1 << 40, 1, b""),
        (3, 0, b""),
    ] {
        let mut buffer = vec![0; length];
        let count = backend.read_at("ten", offset, &mut buffer)?;
        assert_eq!(buffer.get(..count), Some(expected), "read_at {offset}");
        let count = object.read_at(offset, &mut buffer)?;
        assert_eq!(
            buffer.get(..count),
            Some(expected),
            "object read_at {offset}"
        );
    }
    Ok(())
}

fn open_objects_keep_their_content(backend: &dyn Backend) -> Result<()> {
    backend.put("a", b"old")?;
    let object = backend.open("a")?;
    let mut buffer = [0; 3];
    backend.put("a", b"newer")?;
    assert_eq!((object.read_at(0, &mut buffer)?, &buffer), (3, b"old"));
    backend.delete("a")?;
    assert_eq!((object.read_at(0, &mut buffer)?, &buffer), (3, b"old"));
    Ok(())
}

fn list_finds_what_begins_with_the_prefix(backend: &dyn Backend) -> Result<()> {
    assert_eq!(names(backend, "")?, []);
    assert_eq!(names(backend, "nowhere/")?, []);
    for name in [
        "a",
        "ops/ops-1.jsonl",
        "ops/ops-22.jsonl",
        "opsimist",
        "b/c/d",
        "b/c2",
    ] {
        backend.put(name, name.as_bytes())?;
    }
    let listed = |prefix: &str| -> Result<Vec<String>> {
        let names = names(backend, prefix)?;
        assert!(
            names.iter().all(|(name, size)| name.len() as u64 == *size),
            "sizes under {prefix}"
        );
        Ok(names.into_iter().map(|(name, _)| name).collect())
    };
    assert_eq!(listed("ops/")?, ["ops/ops-1.jsonl", "ops/ops-22.jsonl"]);
    assert_eq!(listed("ops/ops-2")?, ["ops/ops-22.jsonl"]);
    assert_eq!(
        listed("ops")?,
        ["ops/ops-1.jsonl", "ops/ops-22.jsonl", "opsimist"]
    );
    assert_eq!(listed("b/c")?, ["b/c/d", "b/c2"]);
    assert_eq!(listed("b/c/")?, ["b/c/d"]);
    assert_eq!(listed("a/")?, Vec::<String>::new());
    assert_eq!(listed("")?.len(), 6);
    Ok(())
}

fn delete_is_idempotent(backend: &dyn Backend) -> Result<()> {
    backend.put("x/a", b"1")?;
    backend.put("x/b", b"2")?;
    backend.delete("x/a")?;
    backend.delete("x/a")?;
    backend.delete("y/a")?;
    backend.delete("x/b/below")?;
    assert_eq!(names(backend, "")?, [("x/b".to_owned(), 1)]);
    backend.delete("x/b")?;
    backend.put("x/c", b"3")?;
    assert_eq!(backend.read("x/c")?, b"3");
    Ok(())
}

fn put_if_changes_nothing_on_conflict(backend: &dyn Backend) -> Result<()> {
    let conflict = Some(ErrorKind::Conflict);
    let never = Expected::Unchanged(Version("never seen".to_owned()));
    assert_eq!(kind_of(backend.put_if("m", b"0", &never)), conflict);
    assert_eq!(kind_of(backend.read("m")), Some(ErrorKind::NotFound));
    backend.put_if("m", b"1", &Expected::Absent)?;
    assert_eq!(
        kind_of(backend.put_if("m", b"0", &Expected::Absent)),
        conflict
    );
    let (content, first) = backend.read_version("m")?;
    assert_eq!(content, b"1");
    backend.put_if("m", b"2", &Expected::Unchanged(first.clone()))?;
    assert_eq!(
        kind_of(backend.put_if("m", b"3", &Expected::Unchanged(first))),
        conflict
    );
    let (content, second) = backend.read_version("m")?;
    assert_eq!(content, b"2");
    assert_eq!(backend.read_version("m")?.1, second);
    backend.put("m", b"4")?;
    assert_eq!(
        kind_of(backend.put_if("m", b"5", &Expected::Unchanged(second))),
        conflict
    );
    assert_eq!(backend.read("m")?, b"4");
    Ok(())
}

fn put_if_lets_one_of_many_win(backend: &dyn Backend) -> Result<()> {
    const ROUNDS: usize = 20;
    backend.put("counter", b"0")?;
    let lost = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    add_one(backend, &lost).expect("the counter is there");
                }
            });
        }
    });
    let total = (3 * ROUNDS).to_string();
    assert_eq!(backend.read("counter")?, total.as_bytes(), "lost updates");
    Ok(())
}

fn add_one(backend: &dyn Backend, lost: &AtomicUsize) -> Result<()> {
    loop {
        let (content, version) = backend.read_version("counter")?;
        let count: usize = String::from_utf8_lossy(&content)
            .parse()
            .map_err(|_| Error::corrupt("the counter is torn"))?;
        let next = (count + 1).to_string();
        match backend.put_if("counter", next.as_bytes(), &Expected::Unchanged(version)) {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            answer => return answer,
        }
    }
}

fn created_objects_appear_when_finished(backend: &dyn Backend) -> Result<()> {
    let mut writer = backend.create("snapshots/one")?;
    writer.write(b"first ")?;
    let large = vec![b'x'; (1 << 20) + 7];
    writer.write(&large)?;
    writer.write(b" last")?;
    assert_eq!(
        kind_of(backend.read("snapshots/one")),
        Some(ErrorKind::NotFound)
    );
    writer.finish()?;
    let expected = [&b"first "[..], &large, b" last"].concat();
    assert!(
        backend.read("snapshots/one")? == expected,
        "the content is not what was written"
    );
    backend.create("new/folder/empty")?.finish()?;
    assert_eq!(backend.read("new/folder/empty")?, b"");
    let mut unfinished = backend.create("snapshots/two")?;
    unfinished.write(&large)?;
    drop(unfinished);
    assert_eq!(
        names(backend, "snapshots/")?,
        [("snapshots/one".to_owned(), expected.len() as u64)],
        "something was left behind"
    );
    Ok(())
}

fn created_objects_do_not_replace(backend: &dyn Backend) -> Result<()> {
    let conflict = Some(ErrorKind::Conflict);
    backend.put("a", b"there")?;
    assert_eq!(kind_of(backend.create("a")), conflict);
    let mut first = backend.create("b")?;
    let mut second = backend.create("b")?;
    first.write(b"first")?;
    second.write(b"second")?;
    second.finish()?;
    assert_eq!(kind_of(first.finish()), conflict);
    assert_eq!(backend.read("b")?, b"second");
    assert_eq!(
        names(backend, "")?,
        [("a".to_owned(), 5), ("b".to_owned(), 6)]
    );
    Ok(())
}

fn logs_append_and_truncate(backend: &dyn Backend) -> Result<()> {
    let mut log = backend.create_log("ops/log")?;
    assert_eq!((log.end(), backend.read("ops/log")?.len()), (0, 0));
    log.append(b"one\n")?;
    log.sync()?;
    log.append(b"two\n")?;
    log.append(b"")?;
    assert_eq!(log.end(), 8);
    assert_eq!(appended(backend, "ops/log")?, b"one\ntwo");
    log.truncate(4)?;
    assert_eq!(log.end(), 4);
    assert_eq!(kind_of(log.truncate(5)), Some(ErrorKind::InvalidInput));
    log.append(b"three\n")?;
    log.sync()?;
    log.finish()?;
    assert_eq!(backend.read("ops/log")?, b"one\nthree\n");
    log.append(b"four\n")?;
    log.finish()?;
    assert_eq!(backend.read("ops/log")?, b"one\nthree\nfour\n");
    let large = vec![b'x'; 3 << 20];
    log.append(&large)?;
    log.append(b"!")?;
    log.finish()?;
    assert_eq!(backend.open("ops/log")?.size()?, 15 + (3 << 20) + 1);
    Ok(())
}

fn logs_are_reopened_at_their_end(backend: &dyn Backend) -> Result<()> {
    let mut log = backend.create_log("ops/log")?;
    log.append(b"one\ntwo\n")?;
    log.sync()?;
    drop(log);
    let mut log = backend.open_log("ops/log", 1, 4)?;
    assert_eq!(
        (log.end(), backend.read("ops/log")?),
        (4, b"one\n".to_vec())
    );
    let reader = backend.open("ops/log")?;
    log.append(b"2\n")?;
    let mut buffer = [0; 2];
    assert_eq!(
        (reader.read_at(4, &mut buffer)?, &buffer),
        (2, b"2\n"),
        "readers see appends"
    );
    assert!(reader.size()? >= 6, "readers see the log grow");
    log.finish()?;
    drop(log);
    assert_eq!(
        kind_of(backend.open_log("ops/log", 7, 7)),
        Some(ErrorKind::Corrupt)
    );
    assert_eq!(backend.open_log("ops/log", 0, 6)?.end(), 6);
    assert_eq!(backend.read("ops/log")?, b"one\n2\n");
    Ok(())
}

fn created_logs_do_not_replace(backend: &dyn Backend) -> Result<()> {
    backend.create_log("ops/log")?.append(b"one\n")?;
    assert_eq!(
        kind_of(backend.create_log("ops/log")),
        Some(ErrorKind::Conflict)
    );
    assert_eq!(appended(backend, "ops/log")?, b"one");
    Ok(())
}

fn the_lock_is_exclusive(backend: &dyn Backend) -> Result<()> {
    let guard = backend.lock()?;
    assert_eq!(kind_of(backend.lock()), Some(ErrorKind::Locked));
    let taken_elsewhere =
        std::thread::scope(|scope| scope.spawn(|| kind_of(backend.lock())).join());
    assert_eq!(taken_elsewhere.ok().flatten(), Some(ErrorKind::Locked));
    drop(guard);
    drop(backend.lock()?);
    backend.lock().map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Faulty, FsBackend, MemoryBackend, SimulatedDisk};

    #[test]
    fn memory_keeps_every_promise() {
        check(|| Box::new(MemoryBackend::new()));
    }

    #[test]
    fn a_wrapper_without_faults_keeps_every_promise() {
        check(|| Box::new(Faulty::new(MemoryBackend::new())));
    }

    #[test]
    fn a_simulated_disk_keeps_every_promise() {
        check(|| Box::new(FsBackend::on(Arc::new(SimulatedDisk::new()), "/store")));
    }

    #[test]
    fn a_directory_keeps_every_promise() {
        for os_buffered in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let made = AtomicUsize::new(0);
            check(|| {
                let number = made.fetch_add(1, Ordering::Relaxed);
                let path = folder.path().join(format!("new/{number}"));
                Box::new(FsBackend::new(path).with_os_buffered(os_buffered))
            });
        }
    }
}

#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at the files from outside"
)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::backend::{CallKind, Fault, SimulatedDisk};

fn disk_with(lock: Option<&[u8]>) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    if let Some(content) = lock {
        disk.plant("/.lock", content).unwrap();
    }
    disk
}

fn acquire(disk: &SimulatedDisk) -> Result<DirectoryLock> {
    DirectoryLock::acquire_on(
        Arc::new(Uninterrupted(Arc::new(disk.clone()))),
        Path::new("/"),
    )
}

fn refusal(disk: &SimulatedDisk) -> String {
    let error = acquire(disk).unwrap_err();
    assert!(error.is_locked(), "{error:?}");
    error.to_string()
}

#[test]
fn lock_file_names_the_process_and_goes_with_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::acquire(folder.path()).unwrap();
    let content = std::fs::read_to_string(folder.path().join(".lock")).unwrap();
    assert_eq!(content, format!("{}\nopslog\n", std::process::id()));
    drop(lock);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".opslog.lock"]);
}

#[test]
fn second_handle_is_refused_with_the_holders_id() {
    let disk = SimulatedDisk::new();
    let other = disk.as_process(42);
    let _lock = acquire(&disk).unwrap();
    assert!(refusal(&other).contains(&disk.process_id().to_string()));
    assert!(refusal(&disk).contains("another handle"));
}

#[test]
fn lock_of_a_dead_opslog_process_is_taken_over_even_if_its_id_lives_again() {
    let disk = disk_with(Some(b"42\nopslog\n"));
    disk.set_alive(42, true);
    let lock = acquire(&disk).unwrap();
    assert_eq!(disk.content("/.lock").unwrap(), lock.content.as_bytes());
}

#[test]
fn lock_of_a_killed_process_is_taken_over() {
    let disk = SimulatedDisk::new();
    let lock = acquire(&disk).unwrap();
    let after = disk.killed();
    acquire(&after).unwrap();
    std::mem::forget(lock);
}

#[test]
fn foreign_lock_counts_while_its_process_lives() {
    let disk = disk_with(Some(b"42"));
    disk.set_alive(42, true);
    assert!(refusal(&disk).contains("process 42"));
    assert_eq!(
        disk.content("/.lock").unwrap(),
        b"42",
        "somebody else's lock was removed"
    );
    disk.set_alive(42, false);
    acquire(&disk).unwrap();
    assert_eq!(disk.content("/.lock"), None);
}

#[test]
fn empty_lock_is_waited_for_and_stolen_only_when_old() {
    for content in [&b""[..], b"\0\0\0", b"\n"] {
        let disk = disk_with(Some(content));
        assert!(refusal(&disk).contains("just locking"));
        assert!(disk.content("/.lock").is_some());
        disk.advance(Duration::from_secs(6));
        acquire(&disk).unwrap();
    }
}

#[test]
fn unreadable_lock_is_refused_and_named() {
    for content in [
        &b"what"[..],
        b"12 34",
        b"42\nother\n",
        b"\xff",
        b"-1",
        b"42\nopslog\nmore",
    ] {
        let disk = disk_with(Some(content));
        disk.advance(Duration::from_mins(1));
        assert!(refusal(&disk).contains("/.lock"));
    }
}

#[test]
fn somebody_elses_lock_is_not_removed_on_release() {
    let disk = SimulatedDisk::new();
    let lock = acquire(&disk).unwrap();
    disk.plant("/.lock", b"42").unwrap();
    drop(lock);
    assert_eq!(disk.content("/.lock").unwrap(), b"42");
}

#[test]
fn lock_that_changes_while_it_is_judged_is_put_back() {
    let disk = disk_with(Some(b"42"));
    let lock = DirectoryLock {
        file_system: Arc::new(disk.clone()),
        path: "/.lock".into(),
        content: "1000001\nopslog\n".into(),
        _flock: disk.lock(Path::new("/.opslog.lock")).unwrap(),
    };
    lock.remove_stale(b"41").unwrap();
    assert_eq!(disk.content("/.lock").unwrap(), b"42");
    assert_eq!(disk.list(Path::new("/")).unwrap().len(), 2);
}

#[test]
fn failed_call_releases_everything_or_the_lock_is_held() {
    for stale in [None, Some(&b"42"[..])] {
        for k in 0.. {
            let disk = disk_with(stale);
            disk.fail(k, Fault::Eio);
            let answer = acquire(&disk);
            let finished = disk.calls() <= k;
            disk.mend();
            if let Ok(lock) = answer {
                assert!(disk.content("/.lock").is_some());
                drop(lock);
            }
            acquire(&disk).unwrap_or_else(|error| panic!("after a failure at call {k}: {error}"));
            assert_eq!(disk.content("/.lock"), None, "call {k}");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn any_crash_leaves_a_lock_that_can_be_taken() {
    for k in 0.. {
        let disk = disk_with(Some(b"42"));
        disk.fail(k, Fault::CrashBefore);
        drop(acquire(&disk));
        disk.each_crash_state(5_000, |after| {
            after.advance(Duration::from_secs(6));
            acquire(&after).unwrap_or_else(|error| panic!("after a crash at call {k}: {error}"));
        });
        if !disk.is_crashed() {
            break;
        }
    }
}

#[test]
fn lock_is_synced_before_it_is_named() {
    let disk = SimulatedDisk::new();
    disk.record();
    drop(acquire(&disk).unwrap());
    let kinds: Vec<_> = disk.trace().into_iter().map(|call| call.kind).collect();
    let position = |kind| kinds.iter().position(|made| *made == kind).unwrap();
    assert!(position(CallKind::SyncData) < position(CallKind::HardLink));
}

#[test]
fn interrupted_calls_are_tried_again() {
    for k in 0..12 {
        let disk = disk_with(Some(b"42"));
        disk.fail(k, Fault::Eintr);
        acquire(&disk).unwrap();
    }
}

#[test]
fn missing_directory_is_not_found() {
    let error = DirectoryLock::acquire("/nonexistent/store").unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[test]
fn exactly_one_of_two_wins_a_dead_processes_lock() {
    let folder = tempfile::tempdir().unwrap();
    let dead = dead_process().to_string();
    for attempt in 0..1_000 {
        let content = match attempt % 3 {
            0 => dead.clone(),
            1 => format!("{dead}\nopslog\n"),
            // An id that is alive again, behind our own mark.
            _ => format!("{}\nopslog\n", std::process::id()),
        };
        std::fs::write(folder.path().join(".lock"), content).unwrap();
        let winners = AtomicU32::new(0);
        let start = Barrier::new(2);
        let end = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    let answer = DirectoryLock::acquire(folder.path());
                    match &answer {
                        Ok(_) => {
                            winners.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert!(error.is_locked(), "{error:?}"),
                    }
                    end.wait();
                });
            }
        });
        assert_eq!(winners.into_inner(), 1, "attempt {attempt}");
    }
}

fn dead_process() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Not a test by itself: the child of the test below. It takes the lock, says so, and dies without a word to anyone.
#[test]
fn child_takes_the_lock_and_dies() {
    let Ok(folder) = std::env::var("OPSLOG_LOCK_TEST_FOLDER") else {
        return;
    };
    let folder = PathBuf::from(folder);
    let answer = DirectoryLock::acquire(&folder);
    let word = match &answer {
        Ok(_) => "won",
        Err(error) if error.is_locked() => "lost",
        Err(_) => "failed",
    };
    std::fs::write(folder.join(format!("{word}.{}", std::process::id())), "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while answer.is_ok() && !folder.join("go").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::process::exit(0);
}

#[test]
fn exactly_one_of_several_processes_wins_and_its_death_frees_the_lock() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path();
    for _round in 0..5 {
        let mut children: Vec<_> = (0..4)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "lock::tests::child_takes_the_lock_and_dies"])
                    .env("OPSLOG_LOCK_TEST_FOLDER", folder)
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let answers = || {
            let names = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names
                .filter(|name| !name.starts_with('.'))
                .collect::<Vec<_>>()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while answers().len() < 4 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let words = answers();
        assert_eq!(
            words.iter().filter(|word| word.starts_with("won")).count(),
            1,
            "{words:?}"
        );
        assert_eq!(
            words.iter().filter(|word| word.starts_with("lost")).count(),
            3,
            "{words:?}"
        );
        std::fs::write(folder.join("go"), "").unwrap();
        for child in &mut children {
            child.wait().unwrap();
        }
        // The winner left its `.lock` behind: it exited without dropping it.
        assert!(folder.join(".lock").exists());
        drop(DirectoryLock::acquire(folder).unwrap());
        for name in answers() {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
    }
}

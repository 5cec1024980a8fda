#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at the files from outside"
)]

use super::*;
use crate::backend::{CallKind, Fault, SimulatedDisk, seeded};

/// A log on a simulated disk is extended by this much.
const STEP: u64 = 64;

fn backend_on(disk: &SimulatedDisk) -> FsBackend {
    FsBackend::on(Arc::new(disk.clone()), "/store").with_padding(STEP, STEP)
}

/// A disk with an initialised store.
fn store() -> (SimulatedDisk, FsBackend) {
    let disk = SimulatedDisk::new();
    let backend = backend_on(&disk);
    backend.initialize().unwrap();
    (disk, backend)
}

/// Runs `work` with a power cut before each of its calls in turn and one after the last; `verify` sees the backend on each disk that may be left, and
/// whether `work` had succeeded.
fn with_every_crash(
    prepare: impl Fn(&FsBackend),
    work: impl Fn(&FsBackend) -> Result<()>,
    verify: impl Fn(&FsBackend, bool),
) {
    for k in 0.. {
        let (disk, backend) = store();
        prepare(&backend);
        disk.fail(disk.calls() + k, Fault::CrashBefore);
        let succeeded = work(&backend).is_ok();
        let outcome = |after: SimulatedDisk| verify(&backend_on(&after), succeeded);
        if !disk.each_crash_state(3_000, outcome) {
            (0..3_000).for_each(|seed| outcome(disk.crash_state(seeded(seed))));
        }
        if !disk.is_crashed() {
            assert!(succeeded);
            return;
        }
    }
}

/// Runs `work` with each of its calls failing in turn; `verify` sees the backend afterwards, mended, and what `work` answered.
fn with_every_fault(
    fault: Fault,
    prepare: impl Fn(&FsBackend),
    work: impl Fn(&FsBackend) -> Result<()>,
    verify: impl Fn(&FsBackend, Result<()>),
) {
    for k in 0.. {
        let (disk, backend) = store();
        prepare(&backend);
        let start = disk.calls();
        disk.fail(start + k, fault);
        let answer = work(&backend);
        let reached = disk.calls() > start + k;
        disk.mend();
        verify(&backend, answer);
        if !reached {
            return;
        }
    }
}

fn names(backend: &FsBackend, prefix: &str) -> Vec<String> {
    let objects = backend.list(prefix).unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

fn no_temporary_files(backend: &FsBackend) {
    let left = names(backend, "");
    assert!(
        !left.iter().any(|name| paths::is_temporary(name)),
        "{left:?}"
    );
}

#[test]
fn put_leaves_the_old_or_the_new_content_after_any_crash() {
    with_every_crash(
        |backend| backend.put("manifest.json", b"old").unwrap(),
        |backend| backend.put("manifest.json", b"newer"),
        |backend, succeeded| {
            let content = backend.read("manifest.json").unwrap();
            assert!(
                content == b"newer" || (!succeeded && content == b"old"),
                "{content:?}"
            );
        },
    );
}

#[test]
fn put_into_new_folders_survives_a_crash() {
    with_every_crash(
        |_| {},
        |backend| backend.put("a/b/c", b"x"),
        |backend, succeeded| match backend.read("a/b/c") {
            Ok(content) => assert_eq!(content, b"x"),
            Err(error) => assert!(!succeeded && error.is_not_found(), "{error:?}"),
        },
    );
}

#[test]
fn initialized_directory_survives_a_crash() {
    let disk = SimulatedDisk::new();
    FsBackend::on(Arc::new(disk.clone()), "/a/b/store")
        .initialize()
        .unwrap();
    assert_eq!(disk.unsynced_changes(), 0);
}

#[test]
fn created_object_is_whole_or_absent_after_any_crash() {
    with_every_crash(
        |_| {},
        |backend| {
            let mut writer = backend.create("snapshots/s")?;
            writer.write(b"whole")?;
            writer.finish()
        },
        |backend, succeeded| match backend.read("snapshots/s") {
            Ok(content) => assert_eq!(content, b"whole"),
            Err(error) => assert!(!succeeded && error.is_not_found(), "{error:?}"),
        },
    );
}

#[test]
fn created_log_survives_a_crash() {
    with_every_crash(
        |_| {},
        |backend| backend.create_log("ops/l").map(drop),
        |backend, succeeded| assert!(!succeeded || backend.open_log("ops/l", 0, 0).is_ok()),
    );
}

#[test]
fn synced_bytes_survive_any_crash_of_later_writes() {
    let lines: [&[u8]; 4] = [
        b"first\n",
        b"second\n",
        b"a third one that goes beyond the padding of the log\n",
        b"4\n",
    ];
    for count in 1..=lines.len() {
        let (durable, rest) = lines.split_at(count - 1);
        with_every_crash(
            |backend| {
                let mut log = backend.create_log("ops/l").unwrap();
                for line in durable {
                    log.append(line).unwrap();
                    log.sync().unwrap();
                }
            },
            |backend| {
                let mut log = backend.open_log("ops/l", 0, durable.concat().len() as u64)?;
                log.append(rest.first().expect("count is at most the number of lines"))?;
                log.sync()
            },
            |backend, succeeded| {
                let content = backend.read("ops/l").unwrap();
                let kept = if succeeded {
                    lines[..count].concat()
                } else {
                    durable.concat()
                };
                assert!(
                    content.starts_with(&kept),
                    "{:?}",
                    String::from_utf8_lossy(&content)
                );
            },
        );
    }
}

#[test]
fn truncation_survives_a_crash() {
    with_every_crash(
        |backend| {
            let mut log = backend.create_log("ops/l").unwrap();
            log.append(b"one\ntwo\n").unwrap();
            log.sync().unwrap();
        },
        |backend| backend.open_log("ops/l", 0, 8)?.truncate(4),
        |backend, succeeded| {
            let content = backend.read("ops/l").unwrap();
            assert!(if succeeded {
                content == b"one\n"
            } else {
                content.starts_with(b"one\n")
            });
        },
    );
}

#[test]
fn failed_put_leaves_the_old_content_and_no_temporary_file() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::SyncFailure] {
        with_every_fault(
            fault,
            |backend| backend.put("m", b"old").unwrap(),
            |backend| backend.put("m", b"new"),
            |backend, answer| {
                let content = backend.read("m").unwrap();
                assert!(content == b"new" || (answer.is_err() && content == b"old"));
                no_temporary_files(backend);
            },
        );
    }
}

#[test]
fn failed_create_leaves_nothing() {
    for fault in [Fault::Eio, Fault::Enospc] {
        with_every_fault(
            fault,
            |_| {},
            |backend| {
                let mut writer = backend.create("snapshots/s")?;
                writer.write(b"whole")?;
                writer.finish()
            },
            |backend, answer| {
                assert_eq!(backend.read("snapshots/s").is_ok(), answer.is_ok());
                no_temporary_files(backend);
            },
        );
    }
}

#[test]
fn failed_append_appends_nothing_and_the_log_stays_usable() {
    let line =
        b"a line that is longer than a step of padding, so that the log must be extended twice\n";
    for fault in [
        Fault::Eio,
        Fault::Enospc,
        Fault::ShortWrite(3),
        Fault::Eintr,
        Fault::ShortWrite(0),
    ] {
        for k in 0..4 {
            for second in [None, Some(Fault::Eio), Some(Fault::Enospc)] {
                let (disk, backend) = store();
                let mut log = backend.create_log("ops/l").unwrap();
                log.append(b"one\n").unwrap();
                let start = disk.calls();
                disk.fail(start + k, fault);
                if let Some(second) = second {
                    disk.fail(start + k + 1, second);
                }
                let mut expected = b"one\n".to_vec();
                match log.append(line) {
                    Ok(()) => expected.extend_from_slice(line),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                }
                assert_eq!(log.end(), expected.len() as u64);
                disk.mend();
                log.append(b"two\n").unwrap();
                log.finish().unwrap();
                expected.extend_from_slice(b"two\n");
                assert_eq!(
                    backend.read("ops/l").unwrap(),
                    expected,
                    "{fault:?} at {k}, then {second:?}"
                );
            }
        }
    }
}

#[test]
fn short_write_is_completed() {
    let (disk, backend) = store();
    disk.fail(disk.calls() + 1, Fault::ShortWrite(2));
    backend.put("ops/x", b"0123456789").unwrap();
    assert_eq!(backend.read("ops/x").unwrap(), b"0123456789");
}

#[test]
fn full_disk_is_named_and_forgotten_when_there_is_space() {
    let (disk, backend) = store();
    let mut log = backend.create_log("ops/l").unwrap();
    disk.fill_up_from(disk.calls());
    let error = log.append(b"x\n").unwrap_err();
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(error.path().unwrap().ends_with("store/ops/l"));
    disk.mend();
    log.append(b"y\n").unwrap();
    log.finish().unwrap();
    assert_eq!(backend.read("ops/l").unwrap(), b"y\n");
}

#[test]
fn last_free_space_is_used_without_padding() {
    let (disk, backend) = store();
    let mut log = backend.create_log("ops/l").unwrap();
    disk.fail(disk.calls(), Fault::Enospc);
    log.append(b"x\n").unwrap();
    assert_eq!(backend.read("ops/l").unwrap(), b"x\n");
}

#[test]
fn append_into_padding_neither_extends_nor_cuts_the_file() {
    let (disk, backend) = store();
    let mut log = backend.create_log("ops/l").unwrap();
    log.append(b"one\n").unwrap();
    log.sync().unwrap();
    disk.record();
    for _ in 0..5 {
        log.append(b"two\n").unwrap();
        log.sync().unwrap();
    }
    let content = backend.read("ops/l").unwrap();
    assert_eq!(content.len() as u64, STEP);
    assert!(content[24..].iter().all(|byte| *byte == b'\n'));
    let kinds: Vec<_> = disk.trace().iter().map(|call| call.kind).take(10).collect();
    assert_eq!(kinds, [CallKind::Write, CallKind::SyncData].repeat(5));
}

#[test]
fn padding_grows_with_the_log() {
    let padding = Padding::default();
    assert_eq!(padding.padded(1), 64 << 10);
    assert_eq!(padding.padded(64 << 10), 128 << 10);
    assert_eq!(padding.padded(3 << 20), (3 << 20) + (512 << 10));
    assert_eq!(padding.padded(100 << 20), 101 << 20);
}

#[test]
fn os_buffered_never_syncs_and_never_pads() {
    let disk = SimulatedDisk::new();
    disk.record();
    let backend = backend_on(&disk).with_os_buffered(true);
    backend.initialize().unwrap();
    backend.put("m", b"x").unwrap();
    let mut writer = backend.create("snapshots/s").unwrap();
    writer.write(b"x").unwrap();
    writer.finish().unwrap();
    let mut log = backend.create_log("ops/l").unwrap();
    log.append(b"one\n").unwrap();
    log.sync().unwrap();
    assert_eq!(backend.read("ops/l").unwrap(), b"one\n");
    log.truncate(0).unwrap();
    log.finish().unwrap();
    let synced = disk.trace().into_iter().any(|call| {
        matches!(
            call.kind,
            CallKind::SyncAll | CallKind::SyncData | CallKind::SyncDir
        )
    });
    assert!(!synced);
}

#[test]
fn interrupted_calls_are_tried_again() {
    with_every_fault(
        Fault::Eintr,
        |_| {},
        |backend| {
            backend.put("x/m", b"x")?;
            let mut log = backend.create_log("ops/l")?;
            log.append(b"one\n")?;
            log.sync()?;
            log.finish()
        },
        |backend, answer| {
            answer.unwrap();
            assert_eq!(backend.read("ops/l").unwrap(), b"one\n");
        },
    );
}

#[test]
fn failed_sync_is_reported() {
    let (disk, backend) = store();
    let mut log = backend.create_log("ops/l").unwrap();
    log.append(b"one\n").unwrap();
    disk.fail(disk.calls(), Fault::SyncFailure);
    assert_eq!(log.sync().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn put_if_has_one_winner_among_processes() {
    let (disk, backend) = store();
    backend.put("m", b"0").unwrap();
    let (_, version) = backend.read_version("m").unwrap();
    let winners: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (1..=4)
            .map(|process_id| {
                let backend = backend_on(&disk.as_process(process_id));
                let expected = Expected::Unchanged(version.clone());
                scope.spawn(move || {
                    backend
                        .put_if("m", &[b'0' + u8::try_from(process_id).unwrap()], &expected)
                        .is_ok()
                })
            })
            .collect();
        tries
            .into_iter()
            .map(|one| usize::from(one.join().unwrap()))
            .sum()
    });
    assert_eq!(winners, 1);
}

#[test]
fn emptied_blob_folders_go_and_the_stores_own_stay() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FsBackend::new(folder.path().join("store"));
    backend.initialize().unwrap();
    backend.put("a/b/c", b"x").unwrap();
    backend.put("ops/ops-1.jsonl", b"x").unwrap();
    backend.delete("a/b/c").unwrap();
    backend.delete("ops/ops-1.jsonl").unwrap();
    assert!(!folder.path().join("store/a").exists());
    assert!(folder.path().join("store/ops").exists());
}

#[test]
fn file_in_the_place_of_the_directory_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, b"x").unwrap();
    let error = FsBackend::new(&path).initialize().unwrap_err();
    assert!(error.to_string().contains("is that of a file"), "{error}");
    assert!(FsBackend::new(path.join("below")).initialize().is_err());
}

#[test]
fn linked_directories_are_not_followed_when_listing() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FsBackend::new(folder.path());
    backend.initialize().unwrap();
    backend.put("a/file", b"xx").unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/circle")).unwrap();
    std::os::unix::fs::symlink("file", folder.path().join("a/link")).unwrap();
    let mut found = names(&backend, "");
    found.sort();
    assert_eq!(found, ["a/file", "a/link"]);
}

#[test]
fn failed_write_is_cut_off_even_if_cutting_fails_at_first() {
    for cut_fails in [false, true] {
        let (disk, backend) = store();
        let mut log = backend.create_log("ops/l").unwrap();
        log.append(b"one\n").unwrap();
        let start = disk.calls();
        disk.fail(start, Fault::ShortWrite(30));
        disk.fail(start + 1, Fault::Eio);
        if cut_fails {
            disk.fail(start + 2, Fault::Eio);
            log.append(&[b'x'; 40]).unwrap_err();
            assert!(backend.read("ops/l").unwrap().contains(&b'x'));
            disk.fail(disk.calls(), Fault::Eio);
            log.append(b"still not\n").unwrap_err();
        } else {
            log.append(&[b'x'; 40]).unwrap_err();
        }
        log.append(b"two\n").unwrap();
        let content = String::from_utf8(backend.read("ops/l").unwrap()).unwrap();
        assert_eq!(content.trim_end(), "one\ntwo");
    }
}

use std::collections::BTreeSet;

use super::*;
use crate::backend::file_system::{File, FileSystem, OpenMode};

fn create(disk: &SimulatedDisk, path: &str) -> Box<dyn File> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

/// Every content that a crash may leave; `None` for a missing file.
fn outcomes(disk: &SimulatedDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let mut found = BTreeSet::new();
    let all = disk.each_crash_state(100_000, |after| {
        found.insert(after.content(path));
    });
    assert!(all, "too many outcomes");
    found
}

/// A disk with the durable file `/f`.
fn disk_with(content: &[u8]) -> (SimulatedDisk, Box<dyn File>) {
    let disk = SimulatedDisk::new();
    disk.plant("/f", content).unwrap();
    let file = disk.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
    (disk, file)
}

fn set(contents: &[&[u8]]) -> BTreeSet<Option<Vec<u8>>> {
    contents
        .iter()
        .map(|content| Some(content.to_vec()))
        .collect()
}

#[test]
fn unsynced_write_is_lost_torn_or_kept() {
    let (disk, file) = disk_with(b"old");
    file.write_at(0, b"new").unwrap();
    assert_eq!(disk.content("/f").unwrap(), b"new");
    assert_eq!(
        outcomes(&disk, "/f"),
        set(&[b"old", b"nld", b"ned", b"new"])
    );
}

#[test]
fn extension_may_reach_the_disk_without_its_data() {
    let (disk, file) = disk_with(b"a");
    file.write_at(1, b"bc").unwrap();
    assert_eq!(outcomes(&disk, "/f"), set(&[b"a", b"ab", b"abc", b"a\0\0"]));
}

#[test]
fn later_write_may_be_kept_where_an_earlier_one_is_lost() {
    let (disk, file) = disk_with(b"__");
    file.write_at(0, b"1").unwrap();
    file.write_at(1, b"2").unwrap();
    assert_eq!(outcomes(&disk, "/f"), set(&[b"__", b"1_", b"_2", b"12"]));
}

#[test]
fn any_sectors_of_a_write_may_be_missing() {
    let (disk, file) = disk_with(&[b'_'; 1024]);
    let bytes = [[b'1'; 512], [b'2'; 512]].concat();
    file.write_at(0, &bytes).unwrap();
    let second_only = [[b'_'; 512], [b'2'; 512]].concat();
    let found = outcomes(&disk, "/f");
    assert!(found.contains(&Some(second_only)));
    assert!(found.contains(&Some(bytes)));
}

#[test]
fn synced_content_survives() {
    let (disk, file) = disk_with(b"old");
    file.write_at(0, b"newer").unwrap();
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/f"), set(&[b"newe"]));
    assert_eq!(disk.unsynced_changes(), 0);
}

#[test]
fn failed_sync_is_not_mended_by_a_later_one() {
    let (disk, file) = disk_with(b"__");
    file.write_at(0, b"1").unwrap();
    disk.fail(disk.calls(), Fault::SyncFailure);
    assert!(file.sync_data().is_err());
    file.write_at(1, b"2").unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.content("/f").unwrap(), b"12");
    assert_eq!(outcomes(&disk, "/f"), set(&[b"_2", b"12"]));
}

#[test]
fn name_of_a_new_file_needs_a_sync_of_its_directory() {
    let disk = SimulatedDisk::new();
    let file = create(&disk, "/f");
    file.write_at(0, b"x").unwrap();
    file.sync_all().unwrap();
    assert_eq!(
        outcomes(&disk, "/f"),
        BTreeSet::from([None, Some(b"x".to_vec())])
    );
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), set(&[b"x"]));
}

#[test]
fn rename_is_atomic_and_may_outrun_the_data() {
    let (disk, _) = disk_with(b"old");
    let file = create(&disk, "/t");
    file.write_at(0, b"n").unwrap();
    disk.rename(Path::new("/t"), Path::new("/f")).unwrap();
    assert_eq!(outcomes(&disk, "/f"), set(&[b"old", b"", b"n", b"\0"]));
    disk.each_crash_state(1_000, |after| {
        let content = after.content("/f").expect("a rename never leaves no file");
        assert!(content == b"old" || after.content("/t").is_none());
    });
}

#[test]
fn removal_needs_a_sync_of_the_directory() {
    let (disk, file) = disk_with(b"x");
    disk.remove(Path::new("/f")).unwrap();
    assert_eq!(
        outcomes(&disk, "/f"),
        BTreeSet::from([None, Some(b"x".to_vec())])
    );
    let mut buffer = [0];
    assert_eq!(
        file.read_at(0, &mut buffer).unwrap(),
        1,
        "an open file stays readable"
    );
}

#[test]
fn crash_fails_every_call_and_releases_locks() {
    let (disk, file) = disk_with(b"x");
    let lock = disk.try_lock(Path::new("/lock")).unwrap();
    assert!(lock.is_some());
    assert!(disk.try_lock(Path::new("/lock")).unwrap().is_none());
    disk.fail(disk.calls() + 1, Fault::CrashBefore);
    file.write_at(0, b"y").unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.len().is_err());
    assert!(disk.list(Path::new("/")).is_err());
    let after = disk.crash_state(|_| 1);
    assert_eq!(after.content("/f").unwrap(), b"y");
    assert!(after.try_lock(Path::new("/lock")).unwrap().is_some());
    assert!(!after.process_is_alive(disk.process_id()));
}

#[test]
fn kill_loses_nothing_but_what_is_unsynced_is_still_unsynced() {
    let (disk, file) = disk_with(b"old");
    file.write_at(0, b"new").unwrap();
    let after = disk.killed();
    assert_eq!(after.content("/f").unwrap(), b"new");
    assert_eq!(outcomes(&after, "/f").len(), 4);
}

#[test]
fn faults_happen_at_their_call_only() {
    let (disk, file) = disk_with(b"");
    let next = disk.calls();
    disk.fail(next, Fault::ShortWrite(2));
    disk.fail(next + 1, Fault::Enospc);
    disk.fail(next + 2, Fault::Eintr);
    disk.fail(next + 3, Fault::Eio);
    assert_eq!(file.write_at(0, b"abc").unwrap(), 2);
    assert_eq!(
        file.write_at(2, b"c").unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!(
        file.write_at(2, b"c").unwrap_err().kind(),
        io::ErrorKind::Interrupted
    );
    assert_eq!(file.len().unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(file.len().unwrap(), 2);
    disk.fill_up_from(disk.calls());
    assert!(file.write_at(2, b"c").is_err());
    assert_eq!(file.len().unwrap(), 2);
    disk.mend();
    file.write_at(2, b"c").unwrap();
}

#[test]
fn calls_are_recorded_with_their_paths() {
    let disk = SimulatedDisk::new();
    disk.record();
    create(&disk, "/f").sync_all().unwrap();
    let path = PathBuf::from("/f");
    let expected = [CallKind::Create, CallKind::SyncAll].map(|kind| Call {
        kind,
        path: path.clone(),
    });
    assert_eq!(disk.trace(), expected);
    assert_eq!(disk.calls(), 2);
}

#[test]
fn dead_process_can_do_nothing_and_holds_nothing() {
    let disk = SimulatedDisk::new();
    let other = disk.as_process(42);
    let lock = other.lock(Path::new("/lock")).unwrap();
    disk.set_alive(42, false);
    assert!(other.list(Path::new("/")).is_err());
    let ours = disk.try_lock(Path::new("/lock")).unwrap();
    drop(lock);
    assert!(ours.is_some() && disk.try_lock(Path::new("/lock")).unwrap().is_none());
}

#[test]
fn every_choice_is_enumerated_once() {
    let mut seen = Vec::new();
    let all = exhaustive(100, |choose| {
        let first = choose(2);
        let second = if first == 1 { choose(3) } else { 0 };
        seen.push((first, second));
    });
    assert!(all);
    assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    assert!(!exhaustive(3, |choose| {
        choose(2);
        choose(2);
    }));
}

#[test]
fn same_seed_gives_the_same_crash() {
    let (disk, file) = disk_with(&[b'_'; 5_000]);
    let bytes: Vec<u8> = (0_u32..5_000)
        .map(|number| number.to_le_bytes()[0])
        .collect();
    file.write_at(0, &bytes).unwrap();
    let mut different = BTreeSet::new();
    for seed in 0..100 {
        let content = disk.crash_state(seeded(seed)).content("/f");
        assert_eq!(
            content,
            disk.crash_state(seeded(seed)).content("/f"),
            "seed {seed}"
        );
        different.insert(content);
    }
    assert!(different.len() > 20, "{}", different.len());
}

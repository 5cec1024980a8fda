use super::*;
use crate::ErrorKind;
use crate::backend::{FsBackend, MemoryBackend};

fn on_each_backend(check: impl Fn(&dyn Backend)) {
    check(&MemoryBackend::new());
    let folder = tempfile::tempdir().unwrap();
    let backend = FsBackend::new(folder.path());
    backend.initialize().unwrap();
    check(&backend);
}

#[test]
fn blobs_are_read_back_whole_and_in_ranges() {
    on_each_backend(|backend| {
        backend.write_blob("a/b", b"0123456789").unwrap();
        assert_eq!(backend.read_blob("a/b").unwrap(), b"0123456789");
        assert_eq!(backend.read_blob_range("a/b", 3, 4).unwrap(), b"3456");
        assert_eq!(
            backend.read_blob_range("a/b", 8, usize::MAX).unwrap(),
            b"89"
        );
        assert_eq!(backend.read_blob_range("a/b", u64::MAX, 1).unwrap(), b"");
    });
}

#[test]
fn listing_shows_one_level_and_none_of_the_stores_files() {
    on_each_backend(|backend| {
        backend.put("manifest.json", b"{}").unwrap();
        backend.put("ops/ops-1.jsonl", b"").unwrap();
        backend.put("x/y.1-2.tmp", b"").unwrap();
        let _lock = backend.lock().unwrap();
        for path in ["top", "x/b", "x/a", "x/deep/1", "x/deep/2"] {
            backend.write_blob(path, b"").unwrap();
        }
        assert_eq!(backend.list_blobs("").unwrap(), ["top", "x"]);
        assert_eq!(backend.list_blobs("x").unwrap(), ["a", "b", "deep"]);
        assert_eq!(backend.list_blobs("x/").unwrap(), ["a", "b", "deep"]);
        assert!(backend.list_blobs("missing").unwrap().is_empty());
        assert!(backend.list_blobs("ops").is_err());
    });
}

#[test]
fn deleting_what_is_not_there_is_told_for_blobs_and_fine_for_directories() {
    on_each_backend(|backend| {
        let error = backend.delete_blob("missing").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "blob 'missing' not found");
        backend.delete_blob_dir("missing").unwrap();
        backend.write_blob("x/a", b"1").unwrap();
        backend.write_blob("x/b/c", b"1").unwrap();
        backend.write_blob("xy", b"1").unwrap();
        backend.delete_blob("x/a").unwrap();
        assert!(backend.read_blob("x/a").unwrap_err().is_not_found());
        backend.delete_blob_dir("x").unwrap();
        assert_eq!(backend.list_blobs("").unwrap(), ["xy"]);
    });
}

#[test]
fn no_call_reaches_the_stores_own_files() {
    on_each_backend(|backend| {
        backend.put("manifest.json", b"{}").unwrap();
        backend.put("ops/ops-1.jsonl", b"x").unwrap();
        for path in ["manifest.json", "ops/ops-1.jsonl", "ops", "../x", "/x", ""] {
            let refused = [
                backend.write_blob(path, b"").unwrap_err(),
                backend.read_blob(path).unwrap_err(),
                backend.read_blob_range(path, 0, 1).unwrap_err(),
                backend.delete_blob(path).unwrap_err(),
                backend.delete_blob_dir(path).unwrap_err(),
            ];
            assert!(
                refused
                    .iter()
                    .all(|error| error.kind() == ErrorKind::InvalidInput),
                "{path:?}"
            );
        }
        assert_eq!(backend.read("ops/ops-1.jsonl").unwrap(), b"x");
    });
}

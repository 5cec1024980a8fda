//! Blobs through an open store, and backends: the ones that come with opslog, and one that a user might write with nothing but the public trait.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, helpers included; the tests look at the files from outside"
)]

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use opslog::backend::{
    Expected, LockGuard, Log, Object, ObjectInfo, ObjectWriter, SimulatedDisk, Version, conformance,
};
use opslog::{
    Backend, Blobs, Error, ErrorKind, FsBackend, MemoryBackend, Result, Since, Store, UndoMode,
    WriteMode,
};
use serde_json::{Value, json};

// A backend of the user's own: a hash table.

/// The whole content is replaced at every change, so that whoever opened an object keeps the old one; only logs are changed in place.
#[derive(Clone, Default)]
struct Shelf {
    objects: Arc<Mutex<HashMap<String, Book>>>,
    is_locked: Arc<Mutex<bool>>,
}

#[derive(Clone, Default)]
struct Book {
    content: Arc<RwLock<Vec<u8>>>,
    edition: u64,
}

struct OpenBook(Book);

struct Draft {
    shelf: Shelf,
    name: String,
    content: Vec<u8>,
}

struct Key(Shelf);

impl Shelf {
    fn objects(&self) -> MutexGuard<'_, HashMap<String, Book>> {
        self.objects.lock().unwrap()
    }

    fn book(&self, name: &str) -> Result<Book> {
        let found = self.objects().get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "not on the shelf").at_path(name))
    }

    fn put_new(&self, name: &str, content: Vec<u8>) -> Result<Book> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(
                Error::new(ErrorKind::Conflict, "it is on the shelf already").at_path(name),
            );
        }
        let book = Book::new(content, 1);
        objects.insert(name.to_owned(), book.clone());
        Ok(book)
    }
}

impl Book {
    fn new(content: Vec<u8>, edition: u64) -> Self {
        Self {
            content: Arc::new(RwLock::new(content)),
            edition,
        }
    }

    fn content(&self) -> Vec<u8> {
        self.content.read().unwrap().clone()
    }

    fn version(&self) -> Version {
        Version(self.edition.to_string())
    }
}

impl Backend for Shelf {
    fn location(&self) -> String {
        "shelf".to_owned()
    }

    fn initialize(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.book(name)?.content())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        OpenBook(self.book(name)?).read_at(offset, buffer)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Object>> {
        Ok(Box::new(OpenBook(self.book(name)?)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let objects = self.objects();
        let found = objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let found = found.map(|(name, book)| ObjectInfo {
            name: name.clone(),
            size: book.content().len() as u64,
        });
        Ok(found.collect())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut objects = self.objects();
        let edition = objects.get(name).map_or(0, |book| book.edition) + 1;
        objects.insert(name.to_owned(), Book::new(bytes.to_vec(), edition));
        Ok(())
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()> {
        let mut objects = self.objects();
        let edition = match (expected, objects.get(name)) {
            (Expected::Absent, None) => 1,
            (Expected::Unchanged(version), Some(book)) if *version == book.version() => {
                book.edition + 1
            }
            _ => return Err(Error::new(ErrorKind::Conflict, "somebody was faster").at_path(name)),
        };
        objects.insert(name.to_owned(), Book::new(bytes.to_vec(), edition));
        Ok(())
    }

    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)> {
        let book = self.book(name)?;
        Ok((book.content(), book.version()))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(name);
        Ok(())
    }

    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        if self.book(name).is_ok() {
            return Err(
                Error::new(ErrorKind::Conflict, "it is on the shelf already").at_path(name),
            );
        }
        Ok(Box::new(Draft {
            shelf: self.clone(),
            name: name.to_owned(),
            content: Vec::new(),
        }))
    }

    fn create_log(&self, name: &str) -> Result<Box<dyn Log>> {
        Ok(Box::new(OpenBook(self.put_new(name, Vec::new())?)))
    }

    fn open_log(&self, name: &str, _unsettled: u64, end: u64) -> Result<Box<dyn Log>> {
        let mut log = OpenBook(self.book(name)?);
        match log.truncate(end) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(Error::new(ErrorKind::Corrupt, "the log is too short").at_path(name))
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Box::new(log)),
        }
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>> {
        let mut is_locked = self.is_locked.lock().unwrap();
        if std::mem::replace(&mut *is_locked, true) {
            return Err(Error::new(ErrorKind::Locked, "somebody else has the key"));
        }
        Ok(Box::new(Key(self.clone())))
    }

    fn lock_agent(&self, _agent: &str) -> Result<Box<dyn LockGuard>> {
        // A shelf has one key, so one agent at a time.
        self.lock()
    }
}

impl Object for OpenBook {
    fn size(&self) -> Result<u64> {
        Ok(self.end())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let content = self.0.content.read().unwrap();
        let offset = usize::try_from(offset).unwrap().min(content.len());
        let rest = &content[offset..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Log for OpenBook {
    fn end(&self) -> u64 {
        self.0.content.read().unwrap().len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.content.write().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        if length > self.end() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "it is shorter than that",
            ));
        }
        let length = usize::try_from(length).unwrap();
        self.0.content.write().unwrap().truncate(length);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl ObjectWriter for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.shelf.put_new(&self.name, self.content).map(drop)
    }
}

impl LockGuard for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        *self.0.is_locked.lock().unwrap() = false;
    }
}

#[test]
fn a_backend_of_the_user_s_own_keeps_every_promise() {
    conformance::check(|| Box::new(Shelf::default()));
}

/// A day in the life of a store on `backend`.
fn a_store_works_on<B: Backend + Clone>(backend: &B) {
    let modes = [
        WriteMode::Immediate,
        WriteMode::group(),
        WriteMode::asynchronous(),
    ];
    let open = |mode| {
        Store::<Value>::builder()
            .write_mode(mode)
            .undo_mode(UndoMode::Truncate)
            .checkpoint_threshold(10)
            .open_backend(backend.clone())
            .unwrap()
    };
    for (round, mode) in modes.into_iter().enumerate() {
        let store = open(mode);
        assert!(
            Store::<Value>::builder()
                .open_backend(backend.clone())
                .unwrap_err()
                .is_locked()
        );
        for n in 0..30 {
            store
                .set(&format!("{round}-{n}"), &json!({"n": n}))
                .unwrap();
        }
        store
            .batch(|batch| {
                batch.delete(&format!("{round}-0"))?;
                batch.set("last", &json!({"round": round}))
            })
            .unwrap();
        store.set("mistake", &json!({})).unwrap();
        assert!(store.undo().unwrap());
        let reader = Store::<Value>::builder().read_only(true);
        let reader = reader.open_backend(backend.clone()).unwrap();
        store.flush().unwrap();
        store.compact().unwrap();
        reader.refresh().unwrap();
        assert_eq!(reader.entries().unwrap(), store.entries().unwrap());
        let period = format!("round {round}");
        let is_small = |document: &Value, _: &str| document["n"].as_u64().is_some_and(|n| n < 5);
        assert_eq!(store.archive(is_small, Some(&period)).unwrap(), 4);
        store.close().unwrap();
    }
    let store = open(WriteMode::Immediate);
    assert_eq!(store.count().unwrap(), 3 * 25 + 1);
    assert_eq!(store.load_archive("round 2").unwrap().len(), 4);
    assert_eq!(store.archive_segments().unwrap().len(), 3);
    assert_eq!(store.history("last").unwrap().len(), 3);
    let mut operations = store.ops(Since::Start).unwrap();
    // Whether the mistake was cut off or reversed depends on when the last checkpoint was made.
    operations.retain(|operation| operation.id != "mistake");
    assert_eq!(operations.len(), 3 * 32);
    assert_eq!(store.stats().unwrap().archived_documents, 12);
}

#[test]
fn a_store_works_on_every_backend() {
    a_store_works_on(&Shelf::default());
    a_store_works_on(&MemoryBackend::new());
    a_store_works_on(&FsBackend::on(Arc::new(SimulatedDisk::new()), "/new/store"));
    let directory = tempfile::tempdir().unwrap();
    a_store_works_on(&FsBackend::new(directory.path().join("new/store")));
}

#[test]
fn a_store_moves_from_one_backend_to_another_byte_for_byte() {
    let shelf = Shelf::default();
    let store: Store = Store::builder().open_backend(shelf.clone()).unwrap();
    store.set("a", &json!({"n": 1})).unwrap();
    store.set("a", &json!({"n": 2})).unwrap();
    store.archive(|_, id| id == "b", None).unwrap();
    store
        .backend()
        .write_blob("pictures/a.png", b"\x89PNG")
        .unwrap();
    store.close().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = FsBackend::new(directory.path());
    target.initialize().unwrap();
    for object in shelf.list("").unwrap() {
        target
            .put(&object.name, &shelf.read(&object.name).unwrap())
            .unwrap();
    }
    let store = Store::<Value>::open(directory.path()).unwrap();
    assert_eq!(store.get("a").unwrap().unwrap()["n"], 2);
    assert_eq!(store.history("a").unwrap().len(), 2);
    assert_eq!(
        store.backend().read_blob("pictures/a.png").unwrap(),
        b"\x89PNG"
    );
    assert!(store.undo().unwrap());
}

// Blobs.

fn on_every_backend(test: impl Fn(&Store)) {
    let directory = tempfile::tempdir().unwrap();
    test(&Store::open(directory.path()).unwrap());
    test(&Store::in_memory().unwrap());
    test(&Store::builder().open_backend(Shelf::default()).unwrap());
}

#[test]
fn a_blob_is_read_back_whole_or_in_parts() {
    on_every_backend(|store| {
        let backend = store.backend();
        let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        backend.write_blob("a/b/large.bin", &content).unwrap();
        backend.write_blob("empty", b"").unwrap();
        assert_eq!(backend.read_blob("a/b/large.bin").unwrap(), content);
        assert_eq!(backend.read_blob("empty").unwrap(), b"");
        let range = |offset, length| {
            backend
                .read_blob_range("a/b/large.bin", offset, length)
                .unwrap()
        };
        assert_eq!(range(0, 3), [0, 1, 2]);
        assert_eq!(range(99_998, 10), content[99_998..]);
        assert_eq!(range(50_000, 0), [0_u8; 0]);
        assert_eq!(range(100_000, 1), [0_u8; 0]);
        assert_eq!(range(u64::MAX, usize::MAX), [0_u8; 0]);
        assert_eq!(range(10, usize::MAX), content[10..]);
        backend.write_blob("a/b/large.bin", b"smaller").unwrap();
        assert_eq!(backend.read_blob("a/b/large.bin").unwrap(), b"smaller");
    });
}

#[test]
fn blobs_are_listed_by_directory_and_the_store_s_own_files_are_not() {
    on_every_backend(|store| {
        store.set("a", &json!({})).unwrap();
        store.archive(|_, _| true, None).unwrap();
        let backend = store.backend();
        for path in [
            "z.txt",
            "pictures/é.png",
            "pictures/small/b.png",
            "pictures2/c",
            "manifest.json.bak",
        ] {
            backend.write_blob(path, path.as_bytes()).unwrap();
        }
        let list = |prefix| backend.list_blobs(prefix).unwrap();
        assert_eq!(
            list(""),
            ["manifest.json.bak", "pictures", "pictures2", "z.txt"]
        );
        assert_eq!(list("."), list(""));
        assert_eq!(list("pictures"), ["small", "é.png"]);
        assert_eq!(list("pictures/"), list("pictures"));
        assert_eq!(list("pictures/small"), ["b.png"]);
        assert_eq!(list("nowhere"), [""; 0]);
        assert_eq!(list("z.txt"), [""; 0]);
        assert_eq!(
            backend.list_blobs("ops").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn deleted_blobs_are_gone_and_others_stay() {
    on_every_backend(|store| {
        let backend = store.backend();
        for path in ["a/1", "a/2", "a/b/3", "ab/4", "c"] {
            backend.write_blob(path, b"x").unwrap();
        }
        backend.delete_blob("a/1").unwrap();
        let error = backend.delete_blob("a/1").unwrap_err();
        assert!(
            error.is_not_found() && error.to_string().contains("blob 'a/1' not found"),
            "{error}"
        );
        assert!(backend.read_blob("a/1").unwrap_err().is_not_found());
        assert!(
            backend
                .read_blob_range("a/1", 0, 1)
                .unwrap_err()
                .is_not_found()
        );
        assert!(backend.delete_blob("a").unwrap_err().is_not_found());
        backend.delete_blob_dir("a").unwrap();
        backend.delete_blob_dir("a").unwrap();
        assert_eq!(backend.list_blobs("").unwrap(), ["ab", "c"]);
        assert_eq!(
            backend.delete_blob_dir("").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            backend.delete_blob_dir("ops").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn blobs_outlive_checkpoints_archives_and_reopens() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store::<Value>::open(directory.path()).unwrap();
    let store = open();
    store.backend().write_blob("notes/a.txt", b"mine").unwrap();
    // Not the store's, although it looks a little like it.
    store.backend().write_blob("ops-1.jsonl", b"mine").unwrap();
    store.backend().write_blob("x.tmp", b"mine").unwrap();
    for round in 0..3 {
        let store = if round == 0 { store.clone() } else { open() };
        store.set("a", &json!({})).unwrap();
        store.compact().unwrap();
        store.archive(|_, _| true, None).unwrap();
        store.close().unwrap();
    }
    for name in ["notes/a.txt", "ops-1.jsonl", "x.tmp"] {
        assert_eq!(
            fs::read(directory.path().join(name)).unwrap(),
            b"mine",
            "{name}"
        );
        assert_eq!(open().backend().read_blob(name).unwrap(), b"mine");
    }
}

#[test]
fn a_blob_is_on_stable_storage_when_write_blob_returns() {
    let disk = SimulatedDisk::new();
    let backend = FsBackend::on(Arc::new(disk.clone()), "/store");
    backend.initialize().unwrap();
    backend.write_blob("pictures/a.png", b"first").unwrap();
    backend.write_blob("pictures/a.png", b"second").unwrap();
    let mut outcomes = 0;
    disk.each_crash_state(1000, |disk| {
        let backend = FsBackend::on(Arc::new(disk), "/store");
        assert_eq!(backend.read_blob("pictures/a.png").unwrap(), b"second");
        outcomes += 1;
    });
    assert!(outcomes > 0);
}

#[test]
fn a_full_disk_leaves_the_old_blob() {
    let disk = SimulatedDisk::new();
    let backend = FsBackend::on(Arc::new(disk.clone()), "/store");
    backend.initialize().unwrap();
    backend.write_blob("a", b"old").unwrap();
    disk.fill_up_from(0);
    assert_eq!(
        backend.write_blob("a", b"new").unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    disk.mend();
    assert_eq!(backend.read_blob("a").unwrap(), b"old");
    assert_eq!(
        backend.list_blobs("").unwrap(),
        ["a"],
        "nothing unfinished is left"
    );
}

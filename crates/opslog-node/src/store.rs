//! One open store, as JavaScript holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::{FnArgs, Function, Uint32Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsString};
use napi_derive::napi;
use opslog::{Error, Operation, Since, Store, Timestamp};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use crate::answer::accepted;
use crate::failure::{argument, invalid, thrown};
use crate::load::Documents;
use crate::memory;
use crate::options::Options;
use crate::places::Places;
use crate::streams::{NativeStream, operation_items, snapshot_items};
use crate::worker::{Job, Jobs, Tell, Worker, array, tell_failed_open};

/// A document that nobody decodes here: only its text is passed on.
pub(crate) struct Opaque;

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(input).map(|_| Self)
    }
}

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, _output: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("documents are passed as text"))
    }
}

/// Arguments of the callback that tells how jobs ended: the fields of [`Told`](crate::worker::Told).
type ToldArguments = FnArgs<(
    u32,
    f64,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
)>;

/// The table that `lib/places.cjs` searches.
#[napi(object, object_from_js = false)]
pub struct PlacesTable {
    /// Places plus one; 0 is free.
    pub table: Uint32Array,
    /// Where the hash begins.
    pub seed: u32,
    /// By what the hash multiplies.
    pub factor: u32,
}

/// A store with its thread.
#[napi]
pub struct NativeStore {
    jobs: Arc<Jobs>,
    documents: Arc<Documents>,
    /// There while the store is open.
    store: Arc<Mutex<Option<Store<Opaque>>>>,
}

#[napi]
impl NativeStore {
    /// Begins to open the store in `directory`; `told` is called when that has ended, and then for each job, in order.
    #[napi(constructor)]
    pub fn new(
        directory: String,
        options: String,
        told: Function<'_, ToldArguments, ()>,
        migrate: Option<Function<'_, FnArgs<(String, u32)>, String>>,
    ) -> napi::Result<Self> {
        let options: Options = argument(&options).map_err(thrown)?;
        let tell = teller(&told)?;
        let migrate = migrate.map(|migrate| migration(&migrate)).transpose()?;
        let native = Self {
            jobs: Arc::default(),
            documents: Arc::default(),
            store: Arc::default(),
        };
        let (jobs, documents, store) = (
            Arc::clone(&native.jobs),
            Arc::clone(&native.documents),
            Arc::clone(&native.store),
        );
        let run = move || {
            // A store whose documents cannot be read is closed before that is told: the directory is free then.
            let opened = open(&directory, &options, migrate);
            let opened = opened.and_then(|opened| documents.load(&opened).map(|()| opened));
            match opened {
                Ok(opened) => {
                    let mut worker = Worker::new(opened.clone(), documents, &options, tell);
                    *lock(&store) = Some(opened);
                    worker.begin();
                    worker.work(&jobs);
                }
                Err(error) => tell_failed_open(&tell, &error),
            }
            // Whoever waits for the end may open the directory at once.
            drop(store);
            jobs.note_end();
        };
        std::thread::Builder::new()
            .name("opslog".to_owned())
            .spawn(run)
            .map_err(|error| {
                napi::Error::from_reason(format!("no thread for the store: {error}"))
            })?;
        Ok(native)
    }

    /// How many documents the next load has.
    #[napi]
    pub fn count_next(&self) -> u32 {
        u32::try_from(self.documents.count_next()).unwrap_or(u32::MAX)
    }

    /// From now on places mean the documents of the next load.
    #[napi]
    pub fn adopt(&self) {
        self.documents.adopt();
    }

    /// The place of a document that was loaded; -1 where there is none, and for all after `forgetIds`.
    #[napi]
    pub fn find(&self, id: String) -> i32 {
        let place = self.documents.find(&id);
        place
            .and_then(|place| i32::try_from(place).ok())
            .unwrap_or(-1)
    }

    /// The ids that were loaded, `count` from `place` on, as a JSON array.
    #[napi]
    pub fn ids<'e>(&self, env: &'e Env, place: u32, count: u32) -> napi::Result<JsString<'e>> {
        js_string(env, &self.documents.ids(place as usize, count as usize))
    }

    /// The documents that were loaded, `count` from `place` on or, of long ones, fewer: `[[id…],[document…]]`. Lets go of the `count` before.
    #[napi]
    pub fn piece<'e>(&self, env: &'e Env, place: u32, count: u32) -> napi::Result<JsString<'e>> {
        js_string(env, &self.documents.piece(place as usize, count as usize))
    }

    /// The documents at `places`, as a JSON array; of long ones only the first.
    #[napi]
    pub fn texts<'e>(&self, env: &'e Env, places: Uint32Array) -> napi::Result<JsString<'e>> {
        js_string(env, &self.documents.texts(&places))
    }

    /// Lets go of the documents at `places`: JavaScript has them, or they have been replaced.
    #[napi]
    pub fn let_go_of(&self, places: Uint32Array) {
        self.documents.let_go(&places);
    }

    /// The document at `place`, once.
    #[napi]
    pub fn take_one<'e>(&self, env: &'e Env, place: u32) -> napi::Result<Option<JsString<'e>>> {
        let text = self.documents.take_one(place);
        text.map(|text| js_string(env, text.as_str())).transpose()
    }

    /// The place and the document of an id, as a JSON array; nothing for one that was not loaded, or was let go of, or after `forgetIds`.
    #[napi]
    pub fn loaded<'e>(&self, env: &'e Env, id: String) -> napi::Result<Option<JsString<'e>>> {
        let text = self.documents.loaded(&id);
        text.map(|text| js_string(env, &text)).transpose()
    }

    /// The table of the places of the ids that were loaded.
    #[napi]
    pub fn places(&self) -> PlacesTable {
        let Places {
            table,
            seed,
            factor,
        } = self.documents.places();
        PlacesTable {
            table: table.into(),
            seed,
            factor,
        }
    }

    /// Lets go of the ids that were loaded, and of their places: JavaScript has both.
    #[napi]
    pub fn forget_ids(&self) {
        self.documents.forget_ids();
    }

    /// Lets go of all texts that were loaded.
    #[napi]
    pub fn forget_loaded(&self) {
        self.documents.forget_loaded();
    }

    /// Lets go of everything that was loaded, without waiting for JavaScript's collector: the store is closed.
    #[napi]
    pub fn let_go(&self) {
        let gone = (self.documents.take_all(), lock(&self.store).take());
        // A million of them take a while, which the event loop does not wait for; without a thread it does.
        let _ = std::thread::Builder::new().spawn(move || {
            drop(gone);
            memory::trim();
        });
    }

    /// Returns when nothing is queued any more.
    #[napi]
    pub fn wait(&self) {
        self.jobs.wait_until_idle();
    }

    /// Queues writes.
    #[napi]
    pub fn write(&self, lines: String) {
        self.jobs.push(Job::Writes(lines));
    }

    /// Queues a batch.
    #[napi]
    pub fn batch(&self, lines: String) {
        self.jobs.push(Job::Batch(lines));
    }

    /// Queues an undo.
    #[napi]
    pub fn undo(&self) {
        self.jobs.push(Job::Undo);
    }

    /// Queues a checkpoint.
    #[napi]
    pub fn compact(&self) {
        self.jobs.push(Job::Compact);
    }

    /// Queues a flush.
    #[napi]
    pub fn flush(&self) {
        self.jobs.push(Job::Flush);
    }

    /// Queues the move of documents to a segment.
    #[napi]
    pub fn archive(&self, ids: String, segment: Option<String>) {
        self.jobs.push(Job::Archive { ids, segment });
    }

    /// Queues the reading of a segment.
    #[napi]
    pub fn load_archive(&self, segment: String) {
        self.jobs.push(Job::LoadArchive(segment));
    }

    /// Queues a look at what another process wrote.
    #[napi]
    pub fn tail(&self) {
        self.jobs.push(Job::Tail);
    }

    /// Queues the question which documents lie in another order, given the id before each of some.
    #[napi]
    pub fn order(&self, places: String) {
        self.jobs.push(Job::Order(places));
    }

    /// Queues a load of all documents.
    #[napi]
    pub fn reload(&self) {
        self.jobs.push(Job::Reload);
    }

    /// Queues the end.
    #[napi]
    pub fn close(&self) {
        self.jobs.push(Job::Close);
    }

    /// The process ends: flushes what was queued. The store is of no use afterwards.
    #[napi]
    pub fn finish(&self) {
        self.jobs.end();
    }

    /// The operations of one document, as a JSON array.
    #[napi]
    pub fn history(&self, id: String) -> napi::Result<String> {
        let operations = self.store()?.history(&id).map_err(thrown)?;
        operations_text(&operations)
    }

    /// The operations after a time, or all, as a JSON array.
    #[napi]
    pub fn operations(&self, since: Option<String>) -> napi::Result<String> {
        let operations = self.store()?.ops(time(since)?).map_err(thrown)?;
        operations_text(&operations)
    }

    /// The documents of the snapshot.
    #[napi]
    pub fn stream_snapshot(&self) -> napi::Result<NativeStream> {
        let store = self.store()?;
        Ok(NativeStream::new(move || {
            Ok(snapshot_items(store.stream_snapshot()?))
        }))
    }

    /// The operations after the snapshot.
    #[napi]
    pub fn stream_operations(&self, since: Option<String>) -> napi::Result<NativeStream> {
        let (store, since) = (self.store()?, time(since)?);
        Ok(NativeStream::new(move || {
            Ok(operation_items(store.log_ops(since)?))
        }))
    }

    fn store(&self) -> napi::Result<Store<Opaque>> {
        let store = lock(&self.store).clone();
        store.ok_or_else(|| thrown(invalid("the store is not open")))
    }
}

impl Drop for NativeStore {
    fn drop(&mut self) {
        self.jobs.end();
    }
}

type Migration = Box<dyn Fn(String, u32) -> Result<String, Error> + Send + Sync>;

fn open(
    directory: &str,
    options: &Options,
    migrate: Option<Migration>,
) -> Result<Store<Opaque>, Error> {
    let mut builder = options.builder()?;
    if let Some(migrate) = migrate {
        builder = builder.migrate(move |document, from| {
            let text = migrate(document.to_string(), from)?;
            Ok(serde_json::from_str(&text)?)
        });
    }
    builder.open(directory)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn teller(told: &Function<'_, ToldArguments, ()>) -> napi::Result<Tell> {
    let function = told.build_threadsafe_function().weak::<true>().build()?;
    Ok(Box::new(move |told| {
        #[expect(clippy::cast_precision_loss, reason = "no log has 2^53 operations")]
        let ops = told.ops_since_checkpoint as f64;
        let arguments = (
            told.count,
            ops,
            told.failures,
            told.value,
            told.manifest,
            told.brings_news,
        );
        function.call(arguments.into(), ThreadsafeFunctionCallMode::NonBlocking);
    }))
}

/// Runs the caller's migration on the event loop, and waits for it on the store's thread. An empty answer says that it threw.
fn migration(migrate: &Function<'_, FnArgs<(String, u32)>, String>) -> napi::Result<Migration> {
    let function = migrate.build_threadsafe_function().weak::<true>().build()?;
    Ok(Box::new(move |document, from| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let answer = move |text: napi::Result<String>, _env| {
            let _ = sender.send(text.unwrap_or_default());
            Ok(())
        };
        function.call_with_return_value(
            (document, from).into(),
            ThreadsafeFunctionCallMode::NonBlocking,
            answer,
        );
        match receiver.recv() {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => Err(invalid("the migration function failed")),
        }
    }))
}

fn js_string<'e>(env: &'e Env, text: &str) -> napi::Result<JsString<'e>> {
    // V8 keeps one byte a character then, and has nothing to decode.
    if text.is_ascii() {
        env.create_string_latin1(text)
    } else {
        env.create_string(text)
    }
}

fn operations_text(operations: &[Operation]) -> napi::Result<String> {
    accepted(array(operations.iter().map(Operation::to_json))).map_err(thrown)
}

fn time(since: Option<String>) -> napi::Result<Since> {
    let Some(text) = since else {
        return Ok(Since::Start);
    };
    let time: Timestamp = text
        .parse()
        .map_err(|error| thrown(invalid(format!("'{text}' is not a time: {error}"))))?;
    Ok(time.into())
}

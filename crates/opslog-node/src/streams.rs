//! Documents and operations that are read piece by piece, on Node's thread pool.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;
use opslog::{OpStream, Operation, Result, SnapshotStream};

use crate::failure::thrown;
use crate::load::quoted;

/// A piece ends with the item that makes it this long.
const PIECE_BYTES: usize = 64 << 10;

type Items = Box<dyn Iterator<Item = Result<String>> + Send>;
type Opener = Box<dyn FnOnce() -> Result<Items> + Send>;

/// A stream is opened by whoever first reads from it.
enum Source {
    Unopened(Opener),
    Open(Items),
    Ended,
}

/// A stream of JSON texts.
#[napi]
pub struct NativeStream {
    source: Arc<Mutex<Source>>,
    version: Arc<AtomicU32>,
}

impl NativeStream {
    pub(crate) fn new(open: impl FnOnce() -> Result<Items> + Send + 'static) -> Self {
        Self::of(Box::new(open), Arc::default())
    }

    fn of(open: Opener, version: Arc<AtomicU32>) -> Self {
        Self {
            source: Arc::new(Mutex::new(Source::Unopened(open))),
            version,
        }
    }
}

#[napi]
impl NativeStream {
    /// The documents of a snapshot file.
    #[napi(factory)]
    pub fn of_file(path: String) -> Self {
        let version = Arc::<AtomicU32>::default();
        let noted = Arc::clone(&version);
        let open = move || {
            let stream = opslog::stream_snapshot_file(path)?;
            noted.store(stream.version(), Ordering::Release);
            Ok(snapshot_items(stream))
        };
        Self::of(Box::new(open), version)
    }

    /// The next items, a JSON array; nothing at the end.
    #[napi]
    pub fn next(&self) -> AsyncTask<NextPiece> {
        AsyncTask::new(NextPiece(Arc::clone(&self.source)))
    }

    /// The version that the snapshot's header has, once something was read.
    #[napi(getter)]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }
}

pub(crate) fn snapshot_items(stream: SnapshotStream) -> Items {
    let item = |document: Result<(String, opslog::Json)>| {
        let (id, text) = document?;
        Ok(format!("[{},{}]", quoted(&id), text.as_str()))
    };
    Box::new(stream.map(item))
}

pub(crate) fn operation_items(stream: OpStream) -> Items {
    let item = |operation: Result<Operation>| Ok(operation?.to_json());
    Box::new(stream.map(item))
}

/// Reads the next piece.
pub struct NextPiece(Arc<Mutex<Source>>);

impl Task for NextPiece {
    type Output = Option<String>;
    type JsValue = Option<String>;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What fails ends the stream.
        let mut items = match std::mem::replace(&mut *source, Source::Ended) {
            Source::Unopened(open) => open().map_err(thrown)?,
            Source::Open(items) => items,
            Source::Ended => return Ok(None),
        };
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES
            && let Some(item) = items.next()
        {
            piece.push(if piece.is_empty() { '[' } else { ',' });
            piece.push_str(&item.map_err(thrown)?);
        }
        if piece.is_empty() {
            return Ok(None);
        }
        piece.push(']');
        *source = Source::Open(items);
        Ok(Some(piece))
    }

    fn resolve(&mut self, _env: Env, piece: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(piece)
    }
}

//! Files of a store's directory, for `FsBackend`: each call runs on Node's thread pool.

use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{AsyncTask, Buffer, ToNapiValue, TypeName};
use napi::{Env, Task};
use napi_derive::napi;
use opslog::backend::Expected;
use opslog::{Backend, Blobs, DirectoryLock, ErrorKind, FsBackend, Result};

use crate::failure::thrown;

/// The files of one directory.
#[napi]
pub struct NativeFiles {
    backend: Arc<FsBackend>,
}

/// A call that was not made yet.
pub struct Call<R>(Option<Box<dyn FnOnce() -> Result<R> + Send>>);

impl<R: Send + ToNapiValue + TypeName + 'static> Task for Call<R> {
    type Output = R;
    type JsValue = R;

    fn compute(&mut self) -> napi::Result<R> {
        let call = self
            .0
            .take()
            .ok_or_else(|| napi::Error::from_reason("a task runs once"))?;
        call().map_err(thrown)
    }

    fn resolve(&mut self, _env: Env, answer: R) -> napi::Result<R> {
        Ok(answer)
    }
}

#[napi]
impl NativeFiles {
    /// The files in `directory`.
    #[napi(constructor)]
    pub fn new(directory: String) -> Self {
        Self {
            backend: Arc::new(FsBackend::new(directory)),
        }
    }

    /// Makes the directory and the folders that a store has.
    #[napi]
    pub fn initialize(&self) -> AsyncTask<Call<()>> {
        self.call(Backend::initialize)
    }

    /// The content of a file, if it is there.
    #[napi]
    pub fn read(&self, name: String) -> AsyncTask<Call<Option<Buffer>>> {
        self.call(move |backend| Ok(if_found(backend.read(&name))?.map(Into::into)))
    }

    /// What tells this content of a file from others, if it is there.
    #[napi]
    pub fn version(&self, name: String) -> AsyncTask<Call<Option<String>>> {
        self.call(move |backend| {
            Ok(if_found(backend.read_version(&name))?.map(|(_, version)| version.0))
        })
    }

    /// Writes a file, atomically and durably.
    #[napi]
    pub fn put(&self, name: String, bytes: Buffer) -> AsyncTask<Call<()>> {
        self.call(move |backend| backend.put(&name, &bytes))
    }

    /// Writes a file that is not there yet, and says whether it did.
    #[napi]
    pub fn create(&self, name: String, bytes: Buffer) -> AsyncTask<Call<bool>> {
        self.call(
            move |backend| match backend.put_if(&name, &bytes, &Expected::Absent) {
                Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
                written => written.map(|()| true),
            },
        )
    }

    /// Appends to a log, durably; `end` is where it ends now.
    #[napi]
    pub fn append(&self, name: String, end: u32, bytes: Buffer) -> AsyncTask<Call<()>> {
        self.call(move |backend| {
            let mut log = backend.open_log(&name, end.into(), end.into())?;
            log.append(&bytes)?;
            log.finish()
        })
    }

    /// Cuts a log off, durably.
    #[napi]
    pub fn truncate(&self, name: String, end: u32) -> AsyncTask<Call<()>> {
        self.call(move |backend| backend.open_log(&name, end.into(), end.into()).map(drop))
    }

    /// The names of the files that begin with `prefix`, sorted.
    #[napi]
    pub fn list(&self, prefix: String) -> AsyncTask<Call<Vec<String>>> {
        self.call(move |backend| {
            let mut names: Vec<String> = backend
                .list(&prefix)?
                .into_iter()
                .map(|file| file.name)
                .collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    /// Removes a file.
    #[napi]
    pub fn remove(&self, name: String) -> AsyncTask<Call<()>> {
        self.call(move |backend| backend.delete(&name))
    }

    /// Writes a blob.
    #[napi]
    pub fn write_blob(&self, path: String, bytes: Buffer) -> AsyncTask<Call<()>> {
        self.call(move |backend| backend.write_blob(&path, &bytes))
    }

    /// Reads a blob.
    #[napi]
    pub fn read_blob(&self, path: String) -> AsyncTask<Call<Buffer>> {
        self.call(move |backend| backend.read_blob(&path).map(Into::into))
    }

    /// Reads a part of a blob; both numbers are natural.
    #[napi]
    pub fn read_blob_range(
        &self,
        path: String,
        offset: f64,
        length: f64,
    ) -> AsyncTask<Call<Buffer>> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked by the caller; too much saturates"
        )]
        let (offset, length) = (offset as u64, length as usize);
        self.call(move |backend| {
            backend
                .read_blob_range(&path, offset, length)
                .map(Into::into)
        })
    }

    /// Lists blobs.
    #[napi]
    pub fn list_blobs(&self, prefix: String) -> AsyncTask<Call<Vec<String>>> {
        self.call(move |backend| backend.list_blobs(&prefix))
    }

    /// Removes a blob; one that is not there is removed already.
    #[napi]
    pub fn delete_blob(&self, path: String) -> AsyncTask<Call<()>> {
        self.call(move |backend| if_found(backend.delete_blob(&path)).map(drop))
    }

    /// Removes the blobs of a folder.
    #[napi]
    pub fn delete_blob_dir(&self, prefix: String) -> AsyncTask<Call<()>> {
        self.call(move |backend| backend.delete_blob_dir(&prefix))
    }

    fn call<R>(
        &self,
        call: impl FnOnce(&FsBackend) -> Result<R> + Send + 'static,
    ) -> AsyncTask<Call<R>>
    where
        R: Send + ToNapiValue + TypeName + 'static,
    {
        let backend = Arc::clone(&self.backend);
        AsyncTask::new(Call(Some(Box::new(move || call(&backend)))))
    }
}

fn if_found<R>(result: Result<R>) -> Result<Option<R>> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        result => result.map(Some),
    }
}

/// The writer's lock of a directory.
#[napi]
pub struct NativeLock(Mutex<Option<DirectoryLock>>);

#[napi]
impl NativeLock {
    /// Gives it up.
    #[napi]
    pub fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Takes a lock.
pub struct TakeLock(String);

impl Task for TakeLock {
    type Output = DirectoryLock;
    type JsValue = NativeLock;

    fn compute(&mut self) -> napi::Result<DirectoryLock> {
        DirectoryLock::acquire(&self.0).map_err(thrown)
    }

    fn resolve(&mut self, _env: Env, lock: DirectoryLock) -> napi::Result<NativeLock> {
        Ok(NativeLock(Mutex::new(Some(lock))))
    }
}

/// Takes the writer's lock of a directory.
#[napi]
pub fn acquire_lock(directory: String) -> AsyncTask<TakeLock> {
    AsyncTask::new(TakeLock(directory))
}

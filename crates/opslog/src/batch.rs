//! Several operations as one commit.

use std::sync::Arc;

use arcstr::{ArcStr, Substr};
use hashbrown::HashMap;

use crate::commit::{Draft, Drafts, Guard, Intent, not_found};
use crate::document::{self, Document, Stored};
use crate::engine::Engine;
use crate::state::{Change, Frozen, State};
use crate::{Json, Result};

/// The operations of a batch while it is being put together; see [`Store::batch`](crate::Store::batch).
///
/// Reads see the batch's own writes on top of the store as it was when the batch began.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.batch(|batch| {
///     batch.set("a", &serde_json::json!({"n": 1}))?;
///     batch.set("b", &serde_json::json!({"n": 2}))
/// })?;
/// assert!(store.undo()?);
/// assert_eq!(store.count()?, 0);
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct Batch<'e, T> {
    engine: &'e Engine<T>,
    drafts: Drafts<T>,
    /// The newest document of each id that the batch has written.
    newest: HashMap<Substr, Option<Stored<T>>>,
}

impl<T: Document> Engine<T> {
    /// Runs `f` with the writer lock held and commits what it put together.
    pub(crate) fn batch<R>(&self, f: impl FnOnce(&mut Batch<'_, T>) -> Result<R>) -> Result<R> {
        let writer: Guard<'_, T> = self.quiesce(self.writer()?)?;
        let mut batch = Batch {
            engine: self,
            drafts: Drafts::new(),
            newest: HashMap::new(),
        };
        let result = self.while_batching(|| f(&mut batch))?;
        let drafts = batch.drafts;
        self.commit(writer, drafts, &Intent::Write)?;
        Ok(result)
    }
}

impl<T: Document> Batch<'_, T> {
    /// Sets the document of `id` when the batch is committed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty or too long id, or a document that is no JSON object.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     batch.set("b", &serde_json::json!({"n": 2}))
    /// })?;
    /// assert_eq!(store.count()?, 2);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn set(&mut self, id: &str, document: &T) -> Result<()> {
        self.put(document::encode(id, document)?);
        Ok(())
    }

    /// As [`set`](Self::set), for a document given as JSON text.
    ///
    /// # Errors
    ///
    /// As for `set`; `InvalidInput` when the text is not valid JSON.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| batch.set_json("a", r#"{"n": 1}"#))?;
    /// assert!(store.has("a")?);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn set_json(&mut self, id: &str, text: &str) -> Result<()> {
        self.put(document::encode_text(id, text)?);
        Ok(())
    }

    fn put(&mut self, document: Stored<T>) {
        self.newest
            .insert(document.shared_id(), Some(document.clone()));
        self.drafts.push(Draft::Set(document));
    }

    /// Deletes the document of `id` when the batch is committed.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is none; the batch may go on.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// let error = store.batch(|batch| batch.delete("a")).unwrap_err();
    /// assert!(error.is_not_found());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn delete(&mut self, id: &str) -> Result<()> {
        if self.newest(id)?.is_none() {
            return Err(not_found(id));
        }
        let id = Substr::from(ArcStr::from(id));
        self.newest.insert(id.clone(), None);
        self.drafts.push(Draft::Delete(id));
        Ok(())
    }

    fn newest(&self, id: &str) -> Result<Option<Stored<T>>> {
        match self.newest.get(id) {
            Some(document) => Ok(document.clone()),
            None => self.engine.stored(id),
        }
    }

    /// The document of `id`, as the batch has it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the document does not fit `T`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.get("a")?.expect("just set")["n"], 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn get(&self, id: &str) -> Result<Option<Arc<T>>> {
        match self.newest(id)? {
            Some(document) => Ok(Some(Arc::clone(document.decoded()?))),
            None => Ok(None),
        }
    }

    /// The document's JSON text, as the batch has it.
    ///
    /// # Errors
    ///
    /// Only those of reading a store whose documents are not in memory.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.get_json("a")?.expect("just set").as_str(), r#"{"n":1}"#);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn get_json(&self, id: &str) -> Result<Option<Json>> {
        Ok(self.newest(id)?.map(|document| document.json()))
    }

    /// Whether `id` has a document, as the batch has it.
    ///
    /// # Errors
    ///
    /// As for [`get_json`](Self::get_json).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert!(batch.has("a")?);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn has(&self, id: &str) -> Result<bool> {
        Ok(self.newest(id)?.is_some())
    }

    /// All ids and documents, in insertion order, as the batch has them.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when a document does not fit `T`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.entries()?[0].0, "a");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn entries(&self) -> Result<Vec<(String, Arc<T>)>> {
        let frozen = self.frozen()?;
        let entries = frozen.iter().map(|document| {
            let document = document?;
            Ok((document.id().to_owned(), Arc::clone(document.decoded()?)))
        });
        entries.collect()
    }

    /// All documents, in insertion order, as the batch has them.
    ///
    /// # Errors
    ///
    /// As for [`entries`](Self::entries).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.all()?[0]["n"], 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn all(&self) -> Result<Vec<Arc<T>>> {
        Ok(self
            .entries()?
            .into_iter()
            .map(|(_, document)| document)
            .collect())
    }

    /// The documents that `predicate` picks, in insertion order, as the batch has them.
    ///
    /// # Errors
    ///
    /// As for [`entries`](Self::entries).
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert!(batch.filter(|document, _id| document["n"] == 2)?.is_empty());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn filter(&self, mut predicate: impl FnMut(&T, &str) -> bool) -> Result<Vec<Arc<T>>> {
        let mut entries = self.entries()?;
        entries.retain(|(id, document)| predicate(document, id));
        Ok(entries.into_iter().map(|(_, document)| document).collect())
    }

    /// The number of documents, as the batch has them.
    ///
    /// # Errors
    ///
    /// Only those of reading a store whose documents are not in memory.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.count()?, 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn count(&self) -> Result<usize> {
        let mut count = self.engine.state().len();
        for (id, document) in &self.newest {
            let before = self.engine.stored(id)?.is_some();
            match (before, document.is_some()) {
                (false, true) => count += 1,
                (true, false) => count -= 1,
                _ => {}
            }
        }
        Ok(count)
    }

    /// The state with the batch's operations applied.
    fn frozen(&self) -> Result<Frozen<T>> {
        let mut state: State<T> = self.engine.state().clone();
        for draft in &self.drafts {
            let known = state.get(draft.id())?.is_some();
            state.apply(match draft {
                Draft::Set(document) => Change::Set {
                    document: document.clone(),
                    update: known,
                },
                Draft::Delete(id) => Change::Delete(id.clone()),
            });
        }
        Ok(state.freeze())
    }

    /// How many operations the batch has so far.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert_eq!(batch.len(), 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether the batch has no operations yet.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.batch(|batch| {
    ///     batch.set("a", &serde_json::json!({"n": 1}))?;
    ///     assert!(!batch.is_empty());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }
}

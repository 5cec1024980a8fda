//! A frozen view of all documents.

use std::sync::Arc;

use crate::Result;
use crate::document::{Document, Json, Stored};
use crate::state::Frozen;

/// The documents of a store as they were at one moment, in insertion order. Taking one is cheap, and it holds no lock.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let view = store.view()?;
/// store.delete("a")?;
/// assert_eq!(view.len(), 1);
/// for entry in view.iter() {
///     let entry = entry?;
///     assert_eq!((entry.id(), entry.json().as_str()), ("a", r#"{"n":1}"#));
/// }
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct View<T> {
    frozen: Frozen<T>,
}

/// One document of a [`View`].
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// for entry in store.view()?.iter() {
///     let entry = entry?;
///     assert_eq!((entry.id(), entry.json().as_str()), ("a", r#"{"n":1}"#));
/// }
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct Entry<T> {
    document: Stored<T>,
    /// The store has the document in memory anyway.
    is_in_memory: bool,
}

impl<T: Document> View<T> {
    pub(crate) fn new(frozen: Frozen<T>) -> Self {
        Self { frozen }
    }

    /// The number of documents.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// assert_eq!(view.len(), 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.frozen.len()
    }

    /// Whether there are none.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// assert!(!view.is_empty());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The documents, in insertion order. An item is an error only where documents are read from storage.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// for entry in view.iter() {
    ///     assert_eq!(entry?.id(), "a");
    /// }
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<Entry<T>>> + use<'_, T> {
        let is_in_memory = self.frozen.is_resident();
        self.frozen.iter().map(move |document| {
            document.map(|document| Entry {
                document,
                is_in_memory,
            })
        })
    }

    pub(crate) fn entries(&self) -> Result<Vec<(String, Arc<T>)>> {
        let mut entries = Vec::with_capacity(self.len());
        self.each(|document| {
            entries.push((document.id().to_owned(), Arc::clone(document.decoded()?)));
            Ok(())
        })?;
        Ok(entries)
    }

    pub(crate) fn filter(
        &self,
        mut predicate: impl FnMut(&T, &str) -> bool,
    ) -> Result<Vec<Arc<T>>> {
        let mut picked = Vec::new();
        self.each(|document| {
            let decoded = document.decoded()?;
            if predicate(decoded, document.id()) {
                picked.push(Arc::clone(decoded));
            }
            Ok(())
        })?;
        Ok(picked)
    }

    pub(crate) fn count_where(&self, mut predicate: impl FnMut(&T, &str) -> bool) -> Result<usize> {
        let mut count = 0;
        self.each(|document| {
            count += usize::from(predicate(document.decoded()?, document.id()));
            Ok(())
        })?;
        Ok(count)
    }

    /// Calls `f` with each document; those in memory are not copied, so what is decoded stays decoded.
    fn each(&self, mut f: impl FnMut(&Stored<T>) -> Result<()>) -> Result<()> {
        if self.frozen.is_resident() {
            for documents in self.frozen.resident_groups() {
                // All of a group are fetched at once: looked at one by one, each waits for the one before, whose content decides how the processor goes on
                // (1,000,000 documents: 33 ms, so 24).
                documents.iter().flatten().for_each(Stored::touch);
                documents.iter().flatten().try_for_each(&mut f)?;
            }
            return Ok(());
        }
        for document in self.frozen.iter() {
            f(&document?)?;
        }
        Ok(())
    }
}

impl<T: Document> Entry<T> {
    /// The document's id.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// let entry = view.iter().next().expect("one document")?;
    /// assert_eq!(entry.id(), "a");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> &str {
        self.document.id()
    }

    /// The document's JSON text.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// let entry = view.iter().next().expect("one document")?;
    /// assert_eq!(entry.json().as_str(), r#"{"n":1}"#);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn json(&self) -> Json {
        if self.is_in_memory {
            self.document.json()
        } else {
            Json::from(self.document.data().to_owned())
        }
    }

    /// The document's JSON text, in the memory that it was read into with its neighbours on storage: up to 1 MiB, which is let go of with the last of them. Costs
    /// less than [`json`](Self::json) for those who keep all documents.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// for entry in store.view()?.iter() {
    ///     assert_eq!(entry?.shared_json().as_str(), r#"{"n":1}"#);
    /// }
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn shared_json(&self) -> Json {
        self.document.json()
    }

    /// The document, decoded.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when it does not fit `T`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let view = store.view()?;
    /// let entry = view.iter().next().expect("one document")?;
    /// assert_eq!(entry.document()?["n"], 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn document(&self) -> Result<Arc<T>> {
        self.document.decoded().map(Arc::clone)
    }
}

//! A numbered sequence of objects. An entry is written once and never changed; of two writers of the same number one
//! wins, which is all the agreement that a lake needs.

use bytes::Bytes;

use crate::objects::{Objects, ObjectsError};

/// A folder of numbered entries.
#[derive(Clone, Debug)]
pub struct Journal {
    objects: Objects,
    folder: String,
}

impl Journal {
    /// The journal in a folder, which need not be there yet.
    pub fn new(objects: Objects, folder: impl Into<String>) -> Self {
        Self { objects, folder: folder.into() }
    }

    /// Path of an entry.
    pub fn path(&self, number: u64) -> String {
        format!("{}/{number:012}.json", self.folder)
    }

    /// The numbers there are, ascending; only those above `after` if given.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn numbers(&self, after: Option<u64>) -> Result<Vec<u64>, ObjectsError> {
        let after = after.map(|number| self.path(number));
        let listed = self.objects.list_after(&self.folder, after.as_deref()).await?;
        let number = |path: &str| path.strip_suffix(".json")?.rsplit('/').next()?.parse().ok();
        Ok(listed.iter().filter_map(|listed| number(&listed.path)).collect())
    }

    /// An entry's bytes.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn read(&self, number: u64) -> Result<Option<Bytes>, ObjectsError> {
        self.objects.get(&self.path(number)).await
    }

    /// Writes an entry; tells whether this writer was the first. A store that did the write and lost the reply is asked
    /// again by its client and then says that there is one: the very same entry is ours.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn append(&self, number: u64, entry: Bytes) -> Result<bool, ObjectsError> {
        if self.objects.create(&self.path(number), entry.clone()).await? {
            return Ok(true);
        }
        Ok(self.read(number).await?.is_some_and(|there| there == entry))
    }

    /// Deletes an entry.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn delete(&self, number: u64) -> Result<(), ObjectsError> {
        self.objects.delete(&self.path(number)).await
    }
}

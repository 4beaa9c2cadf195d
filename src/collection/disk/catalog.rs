//! The catalog: name, fingerprint and counts of each collection in a file.
//!
//! The writer keeps it in memory, and saves its changes with each transaction. An entry is stored as JSON behind a
//! CRC-32 of its number and the JSON.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::change::{NewCollection, Put};
use super::follows::{FirstPass, Follows};
use super::record::Damage;
use super::schema::{self, COLLECTIONS, DROPPED, NEXT_COLLECTION, NUMBERS, SCHEMA};
use crate::collection::passages::PassageSizes;
use crate::lexical;

/// All collections, and deleted ones that are not purged yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    entries: BTreeMap<u32, Entry>,
    /// Numbers of deleted collections whose rows are still to be purged.
    dropped: BTreeSet<u32>,
    /// The lowest number that no collection ever had.
    next: u32,
    /// The schema of the file.
    schema: u64,
    /// Numbers whose entries differ from the saved ones.
    changed: BTreeSet<u32>,
}

/// The entry of a collection, without its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    /// The caller who created it; `None`: it had no name. Versions before this field drop it when they change the
    /// entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    /// The name of its model when it was created; empty: a version before this field created it, or changed the entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) model: String,
    pub(super) fingerprint: String,
    pub(super) dimensions: usize,
    /// The lowest unused row number.
    pub(super) next_row: u64,
    pub(super) rows: u64,
    pub(super) record_bytes: u64,
    /// The sizes of its passages; `None`: each document is one passage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) passages: Option<PassageSizes>,
    /// The settings of its lexical index; `None`: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lexical: Option<lexical::Options>,
    /// The collection that it follows; `None`: it is no follower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<Follows>,
}

/// An entry as it is stored.
#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// The time of creation once. Nothing reads it, but earlier versions refuse an entry without it.
    created_unix_ms: u64,
}

/// Reasons why the catalog could not be read.
#[derive(Debug)]
pub(super) enum CatalogError {
    Damaged { number: u32, damage: Damage },
    Database(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for CatalogError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl Catalog {
    /// Reads and checks the catalog.
    pub(super) fn load(transaction: &ReadTransaction) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        for entry in transaction.open_table(COLLECTIONS)?.iter()? {
            let (number, sealed) = entry?;
            let number = number.value();
            let entry = unseal(number, sealed.value()).map_err(|damage| CatalogError::Damaged { number, damage })?;
            catalog.entries.insert(number, entry);
        }
        if let Some(number) = catalog.unfit_follower() {
            return Err(CatalogError::Damaged { number, damage: Damage::Follows });
        }
        for number in transaction.open_table(DROPPED)?.iter()? {
            catalog.dropped.insert(number?.0.value());
        }
        let numbers = transaction.open_table(NUMBERS)?;
        let next = numbers.get(NEXT_COLLECTION)?.map_or(0, |next| next.value());
        catalog.schema = numbers.get(SCHEMA)?.map_or(schema::EARLIEST, |schema| schema.value());
        let used = catalog.entries.last_key_value().map_or(0, |(number, _)| number.saturating_add(1));
        catalog.next = u32::try_from(next).unwrap_or(u32::MAX).max(used);
        Ok(catalog)
    }

    /// Writes the changes since the last save or load.
    pub(super) fn save(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let mut collections = transaction.open_table(COLLECTIONS)?;
        let mut dropped = transaction.open_table(DROPPED)?;
        for number in std::mem::take(&mut self.changed) {
            match self.entries.get(&number) {
                Some(entry) => drop(collections.insert(number, seal(number, entry).as_slice())?),
                None => drop(collections.remove(number)?),
            }
            match self.dropped.contains(&number) {
                true => drop(dropped.insert(number, ())?),
                false => drop(dropped.remove(number)?),
            }
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(NEXT_COLLECTION, u64::from(self.next))?;
        numbers.insert(SCHEMA, self.schema)?;
        Ok(())
    }

    /// Writes the whole catalog, into a file that may have an older one.
    pub(super) fn save_all(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.delete_table(COLLECTIONS)?;
        transaction.delete_table(DROPPED)?;
        transaction.open_table(COLLECTIONS)?;
        transaction.open_table(DROPPED)?;
        self.changed = self.entries.keys().chain(&self.dropped).copied().collect();
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(NEXT_COLLECTION, u64::from(self.next))?;
        numbers.insert(SCHEMA, self.schema)?;
        drop(numbers);
        self.save(transaction)
    }

    /// Raises the schema of the file to this one, so that earlier versions refuse it.
    pub(super) fn raise_schema(&mut self, schema: u64) {
        self.schema = self.schema.max(schema);
    }

    /// The entries of collections that are not deleted, in order of numbers.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }

    /// The entry with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// True if a collection has this number, or had it and is not purged yet.
    pub(super) fn knows(&self, number: u32) -> bool {
        self.entries.contains_key(&number) || self.dropped.contains(&number)
    }

    /// The number of the collection with this name; followers have none of their own.
    pub(super) fn named(&self, name: &str) -> Option<u32> {
        self.entries().find(|(_, entry)| entry.name == name && entry.follows.is_none()).map(|(number, _)| number)
    }

    /// The lowest number that no collection ever had.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// A collection that is still to be purged.
    pub(super) fn first_dropped(&self) -> Option<u32> {
        self.dropped.first().copied()
    }

    /// Number of collections that are still to be purged.
    pub(super) fn dropped(&self) -> usize {
        self.dropped.len()
    }

    /// Bytes of all records.
    pub(super) fn record_bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.record_bytes).sum()
    }

    /// Number of rows of all collections.
    pub(super) fn rows(&self) -> u64 {
        self.entries.values().map(|entry| entry.rows).sum()
    }

    /// Number of collections that are not deleted.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Numbers and entries of the followers.
    pub(super) fn followers(&self) -> impl Iterator<Item = (u32, &Follows)> {
        self.entries().filter_map(|(number, entry)| Some((number, entry.follows.as_ref()?)))
    }

    /// The number of the follower of a collection.
    pub(super) fn follower_of(&self, leader: u32) -> Option<u32> {
        self.followers().find(|(_, follows)| follows.leader == leader).map(|(number, _)| number)
    }

    /// The number of a follower whose leader is not there, has another name, follows itself, or has another follower.
    fn unfit_follower(&self) -> Option<u32> {
        let fits = |number: u32, follows: &Follows| {
            let (leader, follower) = (self.get(follows.leader), self.get(number));
            leader
                .zip(follower)
                .is_some_and(|(leader, follower)| leader.follows.is_none() && leader.name == follower.name)
                && self.follower_of(follows.leader) == Some(number)
        };
        self.followers().find(|(number, follows)| !fits(*number, follows)).map(|(number, _)| number)
    }

    /// Makes a collection the follower of another.
    pub(super) fn follow(&mut self, follower: u32, follows: Follows) {
        if let Some(entry) = self.entries.get_mut(&follower) {
            entry.follows = Some(follows);
            self.changed.insert(follower);
        }
    }

    /// Notes the progress of a follower's first pass.
    pub(super) fn pass(&mut self, follower: u32, first_pass: &FirstPass) {
        if let Some(follows) = self.entries.get_mut(&follower).and_then(|entry| entry.follows.as_mut()) {
            follows.first_pass = first_pass.clone();
            self.changed.insert(follower);
        }
    }

    /// Makes a follower the leader of its leader.
    pub(super) fn exchange(&mut self, follower: u32) {
        if let Some(follows) = self.entries.get_mut(&follower).and_then(|entry| entry.follows.take()) {
            let switched = !follows.switched;
            self.changed.insert(follower);
            self.follow(follows.leader, Follows { leader: follower, switched, ..follows });
        }
    }

    /// Adds a collection.
    pub(super) fn create(&mut self, new: &NewCollection) {
        let entry = Entry {
            name: new.name.clone(),
            owner: new.owner.clone(),
            model: new.model.clone(),
            fingerprint: new.fingerprint.clone(),
            dimensions: new.dimensions,
            next_row: 0,
            rows: 0,
            record_bytes: 0,
            passages: new.passages,
            lexical: new.lexical,
            follows: None,
        };
        self.entries.insert(new.number, entry);
        self.next = self.next.max(new.number.saturating_add(1));
        self.changed.insert(new.number);
    }

    /// Removes a collection and marks it for the purge.
    pub(super) fn delete(&mut self, number: u32) {
        self.entries.remove(&number);
        self.dropped.insert(number);
        self.changed.insert(number);
    }

    /// Forgets a purged collection.
    pub(super) fn purged(&mut self, number: u32) {
        self.dropped.remove(&number);
        self.changed.insert(number);
    }

    /// Forgets what is still to be purged: for a file that contains none of it.
    pub(super) fn forget_dropped(&mut self) {
        self.dropped.clear();
    }

    /// Counts an added document.
    pub(super) fn added(&mut self, put: &Put) {
        if let Some(entry) = self.entries.get_mut(&put.collection) {
            entry.next_row = entry.next_row.max(put.row.saturating_add(put.passages));
            entry.rows += 1;
            entry.record_bytes += put.bytes.len() as u64;
            self.changed.insert(put.collection);
        }
    }

    /// Counts a removed row.
    pub(super) fn removed(&mut self, number: u32, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.rows = entry.rows.saturating_sub(1);
            entry.record_bytes = entry.record_bytes.saturating_sub(bytes);
            self.changed.insert(number);
        }
    }
}

fn seal(number: u32, entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_vec(&Sealed { entry, created_unix_ms: 0 }).expect("strings and integers are always JSON");
    let mut sealed = checksum(number, &json).to_le_bytes().to_vec();
    sealed.extend(json);
    sealed
}

fn unseal(number: u32, sealed: &[u8]) -> Result<Entry, Damage> {
    let (stored, json) = sealed.split_first_chunk().ok_or(Damage::Incomplete)?;
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(number, json));
    if stored != computed {
        return Err(Damage::Checksum { stored, computed });
    }
    serde_json::from_slice(json).map_err(|_| Damage::Form)
}

fn checksum(number: u32, json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(json);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_earlier_version_is_read_and_earlier_versions_read_ours() {
        let json = r#"{"name":"c","fingerprint":"f","dimensions":4,"created_unix_ms":17,
            "next_row":3,"rows":2,"record_bytes":9}"#;
        let mut sealed = checksum(7, json.as_bytes()).to_le_bytes().to_vec();
        sealed.extend(json.as_bytes());
        let entry = unseal(7, &sealed).unwrap();
        assert_eq!((entry.owner.as_ref(), entry.model.as_str()), (None, ""));
        assert_eq!((entry.name.as_str(), entry.next_row, entry.rows, entry.record_bytes), ("c", 3, 2, 9));
        let ours = seal(7, &entry);
        assert_eq!(unseal(7, &ours), Ok(entry));
        let ours: serde_json::Value = serde_json::from_slice(&ours[4..]).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(json).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&ours), keys(&theirs));
    }
}

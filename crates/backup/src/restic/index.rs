//! Which pack holds which blob: index files as restic writes them, and all of them together in memory.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::id::Id;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BlobKind {
    Data,
    Tree,
}

/// A file below `index/`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexFile {
    #[serde(default)]
    pub(super) packs: Vec<IndexPack>,
    // What rustic's prune has marked for removal (`packs_to_delete`) is not read: it is as good as gone.
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IndexPack {
    pub(super) id: Id,
    pub(super) blobs: Vec<IndexBlob>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct IndexBlob {
    pub(super) id: Id,
    #[serde(rename = "type")]
    pub(super) kind: BlobKind,
    pub(super) offset: u32,
    pub(super) length: u32,
    /// Given where the blob is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uncompressed_length: Option<NonZeroU32>,
}

/// Where a blob lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    pub(super) pack: Id,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) uncompressed_length: Option<NonZeroU32>,
}

impl Location {
    /// Bytes of the blob's plain content.
    pub(super) fn plain_bytes(&self) -> u64 {
        let stored = u64::from(self.length).saturating_sub(super::crypto::SEAL_BYTES as u64);
        self.uncompressed_length.map_or(stored, |length| u64::from(length.get()))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: Id,
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed: u32,
}

/// All index files of a repository: sorted arrays, 48 bytes a blob.
#[derive(Debug, Default)]
pub(super) struct Index {
    packs: Vec<Id>,
    data: Vec<Entry>,
    trees: Vec<Entry>,
}

impl Index {
    pub(super) fn add(&mut self, file: IndexFile) {
        for pack in file.packs {
            let number = self.packs.len() as u32;
            self.packs.push(pack.id);
            for blob in pack.blobs {
                let entry = Entry {
                    id: blob.id,
                    pack: number,
                    offset: blob.offset,
                    length: blob.length,
                    uncompressed: blob.uncompressed_length.map_or(0, NonZeroU32::get),
                };
                match blob.kind {
                    BlobKind::Data => self.data.push(entry),
                    BlobKind::Tree => self.trees.push(entry),
                }
            }
        }
    }

    /// Must follow the last [`add`](Self::add).
    pub(super) fn finish(&mut self) {
        for list in [&mut self.data, &mut self.trees] {
            list.sort_unstable_by_key(|entry| entry.id);
            list.dedup_by_key(|entry| entry.id);
            list.shrink_to_fit();
        }
    }

    pub(super) fn find(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let list = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        let entry = list[list.binary_search_by(|entry| entry.id.cmp(id)).ok()?];
        Some(Location {
            pack: self.packs[entry.pack as usize],
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: NonZeroU32::new(entry.uncompressed),
        })
    }

    pub(super) fn holds(&self, kind: BlobKind, id: &Id) -> bool {
        self.find(kind, id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_restic_is_read_and_looked_up() {
        let (pack, data, tree) = (Id::of(b"pack"), Id::of(b"data"), Id::of(b"tree"));
        let json = format!(
            r#"{{"supersedes":["{pack}"],"packs":[{{"id":"{pack}","blobs":[
                {{"id":"{data}","type":"data","offset":0,"length":50,"uncompressed_length":100}},
                {{"id":"{tree}","type":"tree","offset":50,"length":40}}]}}]}}"#
        );
        let mut index = Index::default();
        index.add(serde_json::from_str(&json).expect("an index"));
        index.add(serde_json::from_str(&json).expect("an index"));
        index.finish();
        let found = index.find(BlobKind::Data, &data).expect("is there");
        assert_eq!((found.pack, found.offset, found.length, found.plain_bytes()), (pack, 0, 50, 100));
        assert_eq!(index.find(BlobKind::Tree, &tree).expect("is there").plain_bytes(), 8);
        assert!(!index.holds(BlobKind::Tree, &data) && !index.holds(BlobKind::Data, &pack));
    }
}

//! A store as `rustic_core` wants it, with an ear for the order to stop: its commands have none, but end at the first
//! operation of storage that fails.

use std::sync::Arc;

use bytes::Bytes;
use copy::StopToken;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id as CoreId, ReadBackend, RepositoryBackends, RusticError, RusticResult,
    WriteBackend,
};

use super::{FileKind, Store, StoreError};

/// What storage must obey while a command runs.
#[derive(Clone, Debug, Default)]
pub(in crate::restic) struct Orders {
    pub(in crate::restic) stop: StopToken,
}

#[derive(Debug)]
pub(in crate::restic) struct Adapter {
    store: Arc<dyn Store>,
    orders: Orders,
}

impl Adapter {
    pub(in crate::restic) fn backends(store: &Arc<dyn Store>, orders: Orders) -> RepositoryBackends {
        RepositoryBackends::new(Arc::new(Self { store: store.clone(), orders }), None)
    }

    fn call<T>(&self, call: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> RusticResult<T> {
        if self.orders.stop.is_stopped() {
            return Err(RusticError::new(ErrorKind::Backend, "the work was stopped"));
        }
        call(&*self.store).map_err(|error| {
            let text = error.to_string();
            // The text may hold braces, which are placeholders to this type.
            RusticError::with_source(ErrorKind::Backend, text.replace(['{', '}'], "_"), error)
        })
    }
}

fn kind(kind: FileType) -> FileKind {
    match kind {
        FileType::Config => FileKind::Config,
        FileType::Key => FileKind::Key,
        FileType::Snapshot => FileKind::Snapshot,
        FileType::Index => FileKind::Index,
        FileType::Pack => FileKind::Pack,
    }
}

impl ReadBackend for Adapter {
    fn location(&self) -> String {
        self.store.location()
    }

    fn list_with_size(&self, of: FileType) -> RusticResult<Vec<(CoreId, u32)>> {
        let files = self.call(|store| store.list(kind(of)))?;
        Ok(files.into_iter().map(|(id, bytes)| (id.into(), u32::try_from(bytes).unwrap_or(u32::MAX))).collect())
    }

    fn read_full(&self, of: FileType, id: &CoreId) -> RusticResult<Bytes> {
        self.call(|store| store.read(kind(of), &id.into()))
    }

    fn read_partial(&self, of: FileType, id: &CoreId, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.call(|store| store.read_range(kind(of), &id.into(), u64::from(offset), length as usize))
    }

    fn warmup_path(&self, of: FileType, id: &CoreId) -> String {
        kind(of).path(&id.into())
    }
}

impl WriteBackend for Adapter {
    fn create(&self) -> RusticResult<()> {
        self.call(|store| store.create())
    }

    fn write_bytes(&self, of: FileType, id: &CoreId, _: bool, content: BytesList) -> RusticResult<()> {
        self.call(|store| store.write(kind(of), &id.into(), content.slice()))
    }

    fn remove(&self, of: FileType, id: &CoreId, _: bool) -> RusticResult<()> {
        self.call(|store| store.remove(kind(of), &id.into()))
    }
}

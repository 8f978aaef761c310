//! A repository that is open: its key, its rules, and its files.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use copy::StopToken;
use rustic_core::repofile::{ConfigFile, KeyFile, MasterKey};
use rustic_core::{ConfigOptions, Credentials, KeyOptions, RepositoryOptions};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use super::chunker::Chunker;
use super::crypto::{self, Key, ScryptCost, Underivable};
use super::error::{RepositoryError, Result};
use super::id::Id;
use super::index::{Index, IndexFile, Location};
use super::store::{Adapter, FileKind, Orders, Store, StoreErrorClass};

/// An open repository. Cheap to clone; calls block, and may come from several threads.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: Key,
    master: Master,
    pub(super) chunker: Chunker,
    /// `None` in a repository of version 1, which knows no compression.
    pub(super) level: Option<i32>,
    id: String,
}

/// The repository's key for the library's own commands.
struct Master(MasterKey);

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Master(..)")
    }
}

/// Key files that are tried; each costs a second of work.
const KEYS_MAX: usize = 32;
/// A file that is JSON is at most this large unpacked: restic's index files are a hundredth of it.
const FILE_BYTES_MAX: u64 = 1 << 30;

impl Repository {
    /// Makes a new repository of version 2 and opens it.
    pub fn init(store: Arc<dyn Store>, password: &SecretString) -> Result<Self> {
        let location = store.location();
        if !store.list(FileKind::Config)?.is_empty() {
            return Err(RepositoryError::Exists { location });
        }
        store.create()?;
        let master = MasterKey::new();
        let own = key_of(&master).expect("lengths of a key");
        // The key before the config, which is what makes a repository of the place.
        let key = new_key_file(&master, password)?;
        let key = Bytes::from(serde_json::to_vec(&key).expect("a key file has nothing that JSON refuses"));
        let key_id = Id::of(&key);
        store.write(FileKind::Key, &key_id, &[key])?;
        let backends = Adapter::backends(&store, Orders::default());
        let options = RepositoryOptions::default().no_cache(true);
        let config = ConfigOptions::default().set_version(2_u32);
        let made = rustic_core::Repository::new(&options, &backends)
            .and_then(|repository| repository.init(&Credentials::Masterkey(master), &KeyOptions::default(), &config))
            .map_err(|error| core_error("initialise the repository", &error));
        if let Err(error) = made {
            let config = store.read(FileKind::Config, &Id::default());
            let is_ours = config.as_ref().is_ok_and(|sealed| unpack(&own, sealed).is_some());
            // Otherwise it was made, and the answer was lost.
            if !is_ours {
                // A key that opens nothing is in everybody's way. The first error is the one worth telling.
                let _ = store.remove(FileKind::Key, &key_id);
                // Somebody else may have made one meanwhile.
                return Err(if config.is_ok() { RepositoryError::Exists { location } } else { error });
            }
        }
        Self::open(store, password)
    }

    /// Opens the repository, and makes it where there is none.
    pub fn open_or_init(store: &Arc<dyn Store>, password: &SecretString) -> Result<Self> {
        match Self::open(store.clone(), password) {
            Err(RepositoryError::NoRepository { .. }) => {}
            answer => return answer,
        }
        match Self::init(store.clone(), password) {
            Err(RepositoryError::Exists { .. }) => Self::open(store.clone(), password),
            answer => answer,
        }
    }

    pub fn open(store: Arc<dyn Store>, password: &SecretString) -> Result<Self> {
        let location = store.location();
        if store.list(FileKind::Config)?.is_empty() {
            return Err(RepositoryError::NoRepository { location });
        }
        let sealed = store.read(FileKind::Config, &Id::default())?;
        let damaged = |what: &str| RepositoryError::Damaged { location: location.clone(), what: what.to_owned() };
        let (key, master, config) = find_key(&*store, password, &sealed)?;
        let version: Version =
            serde_json::from_slice(&config).map_err(|_| damaged("its config file is no config file"))?;
        if !matches!(version.version, 1 | 2) {
            return Err(RepositoryError::UnknownVersion { location, version: version.version });
        }
        let config: ConfigFile =
            serde_json::from_slice(&config).map_err(|_| damaged("its config file is no config file"))?;
        let polynomial = config.poly().ok();
        let chunker = polynomial
            .filter(|_| config.chunker() == rustic_core::repofile::Chunker::Rabin)
            .and_then(|p| Chunker::new(p, config.chunk_size(), config.chunk_min_size(), config.chunk_max_size()))
            .ok_or_else(|| damaged("its config file tells no way of cutting files that is known"))?;
        let level = config.zstd().map_err(|_| damaged("its config file names no known compression"))?;
        // zstd's own default is 3, which the library writes as 0.
        let level = level.map(|level| if level == 0 { zstd::DEFAULT_COMPRESSION_LEVEL } else { level });
        let inner = Inner { store, key, master, chunker, level, id: config.id.to_hex().as_str().to_owned() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.inner.store.location()
    }

    /// The identifier that the repository was given when it was made, 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    pub(super) fn damaged(&self, what: String) -> RepositoryError {
        RepositoryError::Damaged { location: self.location(), what }
    }

    /// Reads a file that is JSON, and checks that it is what its name says.
    pub(super) fn load_file<T: DeserializeOwned>(&self, kind: FileKind, id: &Id) -> Result<T> {
        let sealed = self.inner.store.read(kind, id)?;
        let what = |what| format!("the {kind} {} {what}", id.short());
        if Id::of(&sealed) != *id {
            return Err(self.damaged(what("is not what was written")));
        }
        let json = unpack(&self.inner.key, &sealed).ok_or_else(|| self.damaged(what("does not open with the key")))?;
        serde_json::from_slice(&json).map_err(|_| self.damaged(what("cannot be understood")))
    }

    /// Reads all index files, on as many threads as there are processors.
    pub(super) fn load_index(&self, stop: &StopToken) -> Result<Index> {
        let files = self.inner.store.list(FileKind::Index)?;
        let (todo, index, failed) = (Mutex::new(files), Mutex::new(Index::default()), Mutex::new(None));
        let work = || {
            loop {
                let Some((id, _)) = lock(&todo).pop() else { break };
                if stop.is_stopped() {
                    *lock(&failed) = Some(RepositoryError::Stopped);
                    break;
                }
                match self.load_file::<IndexFile>(FileKind::Index, &id) {
                    Ok(file) => lock(&index).add(file),
                    // Another writer replaced it by a new one between the listing and now.
                    Err(RepositoryError::Store(error)) if error.class == StoreErrorClass::NotFound => {}
                    Err(error) => {
                        *lock(&failed) = Some(error);
                        break;
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut index = index.into_inner().unwrap_or_else(PoisonError::into_inner);
        index.finish();
        Ok(index)
    }

    /// Opens a blob from its sealed bytes, and checks that it is the one with this name.
    pub(super) fn open_blob(&self, id: &Id, location: &Location, sealed: Bytes) -> Option<Vec<u8>> {
        // Bytes that nobody else holds are not copied for this.
        let mut sealed = Vec::from(sealed);
        let opened = self.inner.key.open_in_place(&mut sealed).ok()?;
        let plain = match location.uncompressed_length {
            Some(length) => crypto::decompress(opened, length.get() as usize).ok()?,
            None => opened.to_vec(),
        };
        // The seal tells who wrote it, and only the name tells what it is: packs could have been exchanged.
        (Id::of(&plain) == *id).then_some(plain)
    }

    /// The library's view of the repository, for its own commands. Must not be used or dropped on a thread that runs
    /// asynchronous tasks.
    pub(super) fn core(
        &self,
        orders: Orders,
        progress: impl rustic_core::ProgressBars,
    ) -> Result<rustic_core::Repository<rustic_core::OpenStatus>> {
        let backends = Adapter::backends(&self.inner.store, orders);
        let options = RepositoryOptions::default().no_cache(true);
        rustic_core::Repository::new_with_progress(&options, &backends, progress)
            .and_then(|repository| repository.open(&Credentials::Masterkey(self.inner.master.0.clone())))
            .map_err(|error| core_error("open the repository", &error))
    }
}

#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words of the library for what went wrong, on one line.
pub(super) fn core_error(what: &'static str, error: &rustic_core::RusticError) -> RepositoryError {
    let text = error.display_log();
    let reason = text.split_whitespace().collect::<Vec<_>>().join(" ");
    RepositoryError::Core { what, reason }
}

/// Opens a file and unpacks it where its first byte says that it is packed.
fn unpack(key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
    let plain = key.open(sealed).ok()?;
    match plain.first()? {
        b'{' | b'[' => Some(plain),
        2 => {
            let mut json = Vec::new();
            let stream = zstd::stream::read::Decoder::new(&plain[1..]).ok()?;
            stream.take(FILE_BYTES_MAX + 1).read_to_end(&mut json).ok()?;
            (json.len() as u64 <= FILE_BYTES_MAX).then_some(json)
        }
        _ => None,
    }
}

/// A key file with restic's cost in memory, 32 MiB, which every reader has to spend; the library's own would take four
/// times that. Three passes make up for it.
fn new_key_file(master: &MasterKey, password: &SecretString) -> Result<KeyFile> {
    let mut file = KeyFile {
        hostname: None,
        username: None,
        created: Some(jiff::Zoned::now()),
        kdf: "scrypt".to_owned(),
        n: 1 << 15,
        r: 8,
        p: 3,
        data: Vec::new(),
        salt: crypto::random_bytes(64),
    };
    let derived = derive(&file, password).map_err(|error| match error {
        Underivable::NoThread(reason) => no_thread(reason),
        Underivable::TooMuch | Underivable::Unsound => unreachable!("the parameters above are sound"),
    })?;
    file.data = derived.seal(&serde_json::to_vec(master).expect("a key has nothing that JSON refuses"));
    Ok(file)
}

fn derive(file: &KeyFile, password: &SecretString) -> std::result::Result<Key, Underivable> {
    let cost = ScryptCost { n: file.n, r: file.r, p: file.p };
    Key::derive(password.expose_secret().as_bytes(), &file.salt, cost)
}

fn no_thread(reason: String) -> RepositoryError {
    RepositoryError::Core { what: "derive a key", reason }
}

/// The key that the password gives and that opens the config. A key of nothing may lie beside it, of somebody who began
/// to make the repository at the same time.
fn find_key(store: &dyn Store, password: &SecretString, config: &[u8]) -> Result<(Key, Master, Vec<u8>)> {
    let location = store.location();
    let keys = store.list(FileKind::Key)?;
    if keys.is_empty() {
        return Err(RepositoryError::Damaged { location, what: "it has no key file".to_owned() });
    }
    let mut broken = None;
    let mut is_wrong_password = false;
    for (id, _) in keys.into_iter().take(KEYS_MAX) {
        match try_key(store, &id, password)? {
            Tried::Opens(key, master) => match unpack(&key, config) {
                Some(config) => return Ok((key, master, config)),
                None => broken = Some("its config file does not open with its key".to_owned()),
            },
            Tried::Closed => is_wrong_password = true,
            Tried::Broken(why) => broken = broken.or(Some(format!("the key file {} {why}", id.short()))),
        }
    }
    Err(match broken {
        Some(what) if !is_wrong_password => RepositoryError::Damaged { location, what },
        _ => RepositoryError::WrongPassword { location },
    })
}

enum Tried {
    Opens(Key, Master),
    Closed,
    Broken(&'static str),
}

fn try_key(store: &dyn Store, id: &Id, password: &SecretString) -> Result<Tried> {
    let json = store.read(FileKind::Key, id)?;
    let Ok(file) = serde_json::from_slice::<KeyFile>(&json) else { return Ok(Tried::Broken("is no key file")) };
    if file.kdf != "scrypt" {
        return Ok(Tried::Broken("asks for a derivation of keys that is not known"));
    }
    let derived = match derive(&file, password) {
        Ok(derived) => derived,
        Err(Underivable::TooMuch) => return Ok(Tried::Broken("asks for a derivation of keys that costs too much")),
        Err(Underivable::Unsound) => return Ok(Tried::Broken("has unsound parameters")),
        Err(Underivable::NoThread(reason)) => return Err(no_thread(reason)),
    };
    let Ok(master) = derived.open(&file.data) else { return Ok(Tried::Closed) };
    let Ok(master) = serde_json::from_slice::<MasterKey>(&master) else {
        return Ok(Tried::Broken("holds no key of a repository"));
    };
    Ok(key_of(&master).map_or(Tried::Broken("holds no key of a repository"), |key| Tried::Opens(key, Master(master))))
}

fn key_of(master: &MasterKey) -> Option<Key> {
    Key::from_parts(&master.encrypt, &master.mac.k, &master.mac.r)
}

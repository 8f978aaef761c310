//! A tree in memory that is stricter than a file system.
//!
//! What the kernel would let pass but the engine must never do panics or becomes a [violation](MemoryTree::violations):
//! names that are not plain, opened special files, files made wider than they end, setuid before the owner is set.

mod dest;
mod edit;
mod handle;
mod source;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copy::tree::{DestDir, DestTree, SourceDir, SourceTree, TreeFacts};
use copy::{FsError, FsResult};
use rustix::io::Errno;

use crate::model::TreeModel;
use crate::{BLOCK_BYTES, Call, Calls, Side};
use handle::{Handle, Role};
use state::State;

/// What the file system can do and hold. The default can do everything.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Directory listings tell the kind of an entry.
    pub kinds_in_lists: bool,
    pub reports_holes: bool,
    pub xattrs: bool,
    pub acls: bool,
    pub inode_flags: bool,
    /// `chown` to another owner is allowed.
    pub owners: bool,
    pub hard_links: bool,
    /// FIFOs, sockets and devices can be made.
    pub special_files: bool,
    pub symlinks: bool,
    pub case_insensitive: bool,
    pub read_only: bool,
    pub name_bytes_max: u32,
    pub file_bytes_max: u64,
    pub links_max: u32,
    pub xattr_value_bytes_max: usize,
    /// Space for file data.
    pub capacity_bytes: u64,
    pub capacity_entries: u64,
    /// What a full file system answers: `ENOSPC` or `EDQUOT`.
    pub full: Errno,
    /// Times are cut to a multiple of it.
    pub time_granularity_nanos: u32,
    /// Times are clamped to it.
    pub seconds_min: i64,
    pub seconds_max: i64,
    /// Owner of what is made, before anyone sets one.
    pub process_owner: (u32, u32),
    /// Permission bits that the process takes away from everything that is made.
    pub umask: u32,
    pub is_network: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            kinds_in_lists: true,
            reports_holes: true,
            xattrs: true,
            acls: true,
            inode_flags: true,
            owners: true,
            hard_links: true,
            special_files: true,
            symlinks: true,
            case_insensitive: false,
            read_only: false,
            name_bytes_max: 255,
            file_bytes_max: i64::MAX as u64,
            links_max: u32::MAX,
            xattr_value_bytes_max: 64 << 10,
            capacity_bytes: u64::MAX,
            capacity_entries: u64::MAX,
            full: Errno::NOSPC,
            time_granularity_nanos: 1,
            seconds_min: i64::MIN,
            seconds_max: i64::MAX,
            process_owner: (0, 0),
            // The strictest that exists: who relies on a created mode fails here.
            umask: 0o077,
            is_network: false,
        }
    }
}

/// A file system in memory. Clones are the same tree.
#[derive(Clone, Debug)]
pub struct MemoryTree {
    shared: Arc<Shared>,
}

struct Shared {
    options: MemoryOptions,
    facts: TreeFacts,
    state: Mutex<State>,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTree {
    /// An empty directory on a file system that can do everything.
    pub fn new() -> Self {
        Self::with_options(MemoryOptions::default())
    }

    pub fn with_options(options: MemoryOptions) -> Self {
        Self::from_model_with(&TreeModel::new(), options)
    }

    pub fn from_model(model: &TreeModel) -> Self {
        Self::from_model_with(model, MemoryOptions::default())
    }

    /// A tree that holds the model, whatever the options would refuse to a copy.
    pub fn from_model_with(model: &TreeModel, options: MemoryOptions) -> Self {
        static DEVICES: AtomicU64 = AtomicU64::new(0x1_0000);
        let device = DEVICES.fetch_add(1, Ordering::Relaxed);
        let mut state = State::new(device, options.case_insensitive);
        state.build(model);
        let facts = TreeFacts {
            location: format!("memory {device:#x}").into_bytes(),
            is_network: options.is_network,
            used_bytes: state.used_bytes(),
            used_entries: state.used_entries(),
            free_bytes: options.capacity_bytes.saturating_sub(state.used_bytes()),
            free_entries: (options.capacity_entries != u64::MAX)
                .then(|| options.capacity_entries.saturating_sub(state.used_entries())),
            name_bytes_max: options.name_bytes_max,
            case_insensitive: options.case_insensitive,
            xattrs: options.xattrs,
            acls: options.acls,
            inode_flags: options.inode_flags,
            reports_holes: options.reports_holes,
            device,
            read_only: options.read_only,
            umask: options.umask,
            ..TreeFacts::plain("memory")
        };
        Self { shared: Arc::new(Shared { options, facts, state: Mutex::new(state) }) }
    }

    /// The tree as it is now. Looking leaves no trace.
    pub fn snapshot(&self) -> TreeModel {
        self.shared.lock().snapshot()
    }

    /// What the engine did that it must never do.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// Fails the test where there are violations.
    #[track_caller]
    pub fn assert_no_violations(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the engine broke rules:\n{}", violations.join("\n"));
    }

    /// Calls since the tree was made or [`reset_calls`](Self::reset_calls).
    pub fn calls(&self, side: Side) -> Calls {
        self.shared.lock().calls[side as usize].clone()
    }

    pub fn reset_calls(&self) {
        self.shared.lock().calls = <[Calls; 2]>::default();
    }

    /// Files that were opened for writing and dropped without asking `close` for lost writes.
    pub fn unclosed_files(&self) -> u64 {
        self.shared.lock().unclosed_files
    }

    /// Handles of any kind that are held now.
    pub fn open_handles(&self) -> u64 {
        self.shared.lock().open_handles
    }

    /// The most handles that were held at once.
    pub fn open_handles_max(&self) -> u64 {
        self.shared.lock().open_handles_max
    }

    /// What a crash of the machine leaves at its worst: names, sizes and times of everything, and zeros for the data
    /// of each file that was written since the last `sync`.
    pub fn crash(&self) {
        self.shared.lock().crash();
    }

    pub fn options(&self) -> &MemoryOptions {
        &self.shared.options
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every handle shows it: no place for a whole tree.
        write!(f, "memory {:#x}", self.facts.device)
    }
}

impl Shared {
    /// A panic of the engine under test must not hide what the tree saw.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and gives the state to work on.
    fn enter(&self, side: Side, call: Call) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.calls[side as usize].add(call);
        state
    }

    /// Refuses `blocks` more where the file system would overflow.
    fn check_space(&self, state: &State, blocks: u64) -> Result<(), Errno> {
        // Adding up is slow, so it is done only where there is a limit.
        if blocks == 0 || self.options.capacity_bytes == u64::MAX {
            return Ok(());
        }
        let wanted = state.used_bytes().saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        if wanted > self.options.capacity_bytes { Err(self.options.full) } else { Ok(()) }
    }
}

impl SourceTree for MemoryTree {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        let state = self.shared.enter(Side::Source, Call::Root);
        Ok(Arc::new(Handle::new(&self.shared, state, Side::Source, State::ROOT, Role::Dir)))
    }

    fn facts(&self) -> &TreeFacts {
        &self.shared.facts
    }
}

impl DestTree for MemoryTree {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        let state = self.shared.enter(Side::Dest, Call::Root);
        Ok(Arc::new(Handle::new(&self.shared, state, Side::Dest, State::ROOT, Role::Dir)))
    }

    fn facts(&self) -> &TreeFacts {
        &self.shared.facts
    }

    fn sync(&self) -> FsResult<()> {
        self.shared.enter(Side::Dest, Call::Sync).sync();
        Ok(())
    }
}

fn fail<T>(call: Call, errno: Errno) -> FsResult<T> {
    Err(FsError::new(call.op(), errno))
}

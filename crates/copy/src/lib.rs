//! Copies and compares file trees: on threads, at full speed, safely as root over trees that others change.
//!
//! [`copy_tree`] and [`compare_trees`] work on two trees behind the ports of [`tree`]; [`LocalTree`] is the one on
//! file systems, by descriptors only. The engine prints nothing, reads no environment and knows no async, JSON or SQL:
//! what it finds goes to a [`Monitor`] and into the report.
//!
//! An entry that cannot be copied is a [`Fault`] in the report; an attribute that the destination cannot hold is a
//! [`Loss`]; [`CopyError`] means that going on makes no sense.
//!
//! ```no_run
//! use copy::{CopyContext, CopyOptions, LocalTree, NoMonitor, StopToken, Throttle};
//!
//! let source = LocalTree::open_source("/srv/old".as_ref())?;
//! let dest = LocalTree::open_dest("/srv/new".as_ref())?;
//! let (stop, throttle) = (StopToken::new(), Throttle::default());
//! let cx = CopyContext { source: &source, dest: &dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
//! let report = copy::copy_tree(&cx, &CopyOptions::default())?;
//! assert_eq!(report.ending, copy::Ending::Complete);
//! # Ok::<(), copy::CopyError>(())
//! ```

mod engine;
mod error;
mod filter;
mod hash;
mod local;
mod meta;
mod monitor;
mod options;
mod path;
mod preflight;
mod rates;
mod report;
mod state;
mod stop;
mod throttle;
pub mod tree;

pub use engine::{
    Choice, ClearContext, CopyContext, ScanContext, ScanOptions, Scanned, clear_tree, compare_trees, copy_tree,
    scan_tree, verify_trees,
};
pub use error::{CopyError, ErrorClass, Fault, FsError, FsOp, FsResult};
pub use filter::Filter;
pub use hash::{BLOCK, BlockSum, Checksum, HashKind};
pub use local::{LocalTree, Weakness, weaken};
pub use meta::{ACL_ACCESS, ACL_DEFAULT, EntryKind, FileId, InodeFlags, Metadata, Timestamp, Xattr, Xattrs};
pub use monitor::{Current, Monitor, NoMonitor, Progress, Stage};
pub use options::{
    Compare, CompareOptions, CopyOptions, Delete, Devices, Limits, Movers, OnFault, OnLoss, Records, Sparse, Sync,
    Verify,
};
pub use path::{RelPath, escape, is_plain_name};
pub use preflight::{Finding, preflight};
pub use rates::{ENTRY_BYTES, Rates};
pub use report::{
    Action, CompareReport, CopyReport, Counters, Difference, DifferenceKind, Ending, EntryRecord, Loss, LossKind, Mover,
};
pub use stop::{StopReason, StopToken};
pub use throttle::Throttle;

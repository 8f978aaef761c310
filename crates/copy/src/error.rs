//! The one place that reads errno: what was attempted, and what the answer means for the run.

use std::fmt;

use rustix::io::Errno;

use crate::path::RelPath;

/// Operations on an entry, as named in faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FsOp {
    Open,
    Create,
    List,
    Stat,
    Read,
    Write,
    SeekData,
    Truncate,
    Allocate,
    Clone,
    CopyRange,
    Close,
    Sync,
    MakeDir,
    MakeNode,
    MakeSymlink,
    ReadLink,
    Link,
    Remove,
    SetOwner,
    SetMode,
    SetTimes,
    ListXattrs,
    GetXattr,
    SetXattr,
    RemoveXattr,
    GetFlags,
    SetFlags,
    StatFs,
    Verify,
}

impl FsOp {
    pub const ALL: [Self; 30] = [
        Self::Open,
        Self::Create,
        Self::List,
        Self::Stat,
        Self::Read,
        Self::Write,
        Self::SeekData,
        Self::Truncate,
        Self::Allocate,
        Self::Clone,
        Self::CopyRange,
        Self::Close,
        Self::Sync,
        Self::MakeDir,
        Self::MakeNode,
        Self::MakeSymlink,
        Self::ReadLink,
        Self::Link,
        Self::Remove,
        Self::SetOwner,
        Self::SetMode,
        Self::SetTimes,
        Self::ListXattrs,
        Self::GetXattr,
        Self::SetXattr,
        Self::RemoveXattr,
        Self::GetFlags,
        Self::SetFlags,
        Self::StatFs,
        Self::Verify,
    ];

    /// A stable word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Read => "read",
            Self::Write => "write",
            Self::SeekData => "seek_data",
            Self::Truncate => "truncate",
            Self::Allocate => "allocate",
            Self::Clone => "clone",
            Self::CopyRange => "copy_range",
            Self::Close => "close",
            Self::Sync => "sync",
            Self::MakeDir => "make_dir",
            Self::MakeNode => "make_node",
            Self::MakeSymlink => "make_symlink",
            Self::ReadLink => "read_link",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::SetOwner => "set_owner",
            Self::SetMode => "set_mode",
            Self::SetTimes => "set_times",
            Self::ListXattrs => "list_xattrs",
            Self::GetXattr => "get_xattr",
            Self::SetXattr => "set_xattr",
            Self::RemoveXattr => "remove_xattr",
            Self::GetFlags => "get_flags",
            Self::SetFlags => "set_flags",
            Self::StatFs => "stat_fs",
            Self::Verify => "verify",
        }
    }

    /// What could not be done, for a sentence that begins with "cannot".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::List => "list the directory",
            Self::Stat => "read the attributes of",
            Self::Read => "read",
            Self::Write => "write",
            Self::SeekData => "find the holes of",
            Self::Truncate => "set the size of",
            Self::Allocate => "allocate space for",
            Self::Clone => "clone",
            Self::CopyRange => "copy inside the server",
            Self::Close => "close",
            Self::Sync => "make durable",
            Self::MakeDir => "make the directory",
            Self::MakeNode => "make the special file",
            Self::MakeSymlink => "make the symlink",
            Self::ReadLink => "read the symlink",
            Self::Link => "make the hard link",
            Self::Remove => "remove",
            Self::SetOwner => "set the owner of",
            Self::SetMode => "set the mode of",
            Self::SetTimes => "set the times of",
            Self::ListXattrs => "list the extended attributes of",
            Self::GetXattr => "read an extended attribute of",
            Self::SetXattr => "set an extended attribute of",
            Self::RemoveXattr => "remove an extended attribute of",
            Self::GetFlags => "read the inode flags of",
            Self::SetFlags => "set the inode flags of",
            Self::StatFs => "read the file system's figures at",
            Self::Verify => "confirm the copy of",
        }
    }
}

/// What an error means for the run, whatever its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// May pass by itself; tried again within the limits.
    Transient,
    /// Space, inodes or quota are used up.
    NoSpace,
    /// The storage failed or lost what it had taken.
    Io,
    Denied,
    NotFound,
    /// Something is there under that name.
    Exists,
    /// The entry is not what it was a moment ago: another kind, another inode, other content.
    Changed,
    /// A name, size or value that this file system does not take.
    Unsupported,
    /// The file system became read-only.
    ReadOnly,
    /// A path left its tree, or an entry tried to make it do so.
    Escape,
    /// What was read back differs from what was written.
    Corrupt,
    /// A limit that the caller set does not allow it.
    Limit,
    Other,
}

impl ErrorClass {
    pub const ALL: [Self; 13] = [
        Self::Transient,
        Self::NoSpace,
        Self::Io,
        Self::Denied,
        Self::NotFound,
        Self::Exists,
        Self::Changed,
        Self::Unsupported,
        Self::ReadOnly,
        Self::Escape,
        Self::Corrupt,
        Self::Limit,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::NoSpace => "no_space",
            Self::Io => "io",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Changed => "changed",
            Self::Unsupported => "unsupported",
            Self::ReadOnly => "read_only",
            Self::Escape => "escape",
            Self::Corrupt => "corrupt",
            Self::Limit => "limit",
            Self::Other => "other",
        }
    }

    /// The one table from errno to meaning. Numbers from `errno(3)`, their use on network storage from `nfs(5)`.
    fn of(errno: Errno) -> Self {
        match errno {
            // ESTALE: the server restarted or the handle was evicted; a new look-up may help.
            Errno::INTR
            | Errno::AGAIN
            | Errno::STALE
            | Errno::TIMEDOUT
            | Errno::BUSY
            | Errno::NOMEM
            | Errno::MFILE
            | Errno::NFILE => Self::Transient,
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            Errno::IO | Errno::NODEV | Errno::NXIO | Errno::NOTCONN | Errno::CONNABORTED | Errno::SHUTDOWN => Self::Io,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::NOENT => Self::NotFound,
            Errno::EXIST | Errno::NOTEMPTY => Self::Exists,
            Errno::NOTDIR | Errno::ISDIR => Self::Changed,
            Errno::NAMETOOLONG
            | Errno::ILSEQ
            | Errno::FBIG
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::INVAL
            | Errno::MLINK
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::OVERFLOW => Self::Unsupported,
            Errno::ROFS => Self::ReadOnly,
            Errno::XDEV | Errno::LOOP => Self::Escape,
            _ => Self::Other,
        }
    }
}

/// An operation of the file system that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsError {
    pub op: FsOp,
    pub class: ErrorClass,
    /// 0 where the engine found the fault itself.
    pub errno: i32,
}

pub type FsResult<T> = Result<T, FsError>;

impl FsError {
    pub fn new(op: FsOp, errno: Errno) -> Self {
        Self { op, class: ErrorClass::of(errno), errno: errno.raw_os_error() }
    }

    /// A fault that the engine found without the kernel's help.
    pub fn found(op: FsOp, class: ErrorClass) -> Self {
        Self { op, class, errno: 0 }
    }

    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno.raw_os_error()
    }

    /// The kernel's words for the number, or the engine's for its own findings.
    pub fn reason(&self) -> String {
        if self.errno != 0 {
            // `Errno`'s text ends with "(os error N)", which the report keeps in a field of its own.
            let text = std::io::Error::from_raw_os_error(self.errno).to_string();
            return text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        }
        match self.class {
            ErrorClass::Changed => "it changed while it was copied".into(),
            ErrorClass::Corrupt => "what was read back differs from what was written".into(),
            ErrorClass::Limit => "the limit of removals is reached".into(),
            ErrorClass::Escape => "the name would leave the tree".into(),
            ErrorClass::Exists => "another entry of the directory has this name in the destination".into(),
            ErrorClass::Unsupported => "the file system does not take it".into(),
            class => class.as_str().replace('_', " "),
        }
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.op.phrase(), self.reason())
    }
}

impl std::error::Error for FsError {}

/// Gives a kernel answer the name of what was attempted.
pub(crate) trait Context<T> {
    fn op(self, op: FsOp) -> FsResult<T>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn op(self, op: FsOp) -> FsResult<T> {
        self.map_err(|errno| FsError::new(op, errno))
    }
}

/// Why a run could not begin or go on. What concerns single entries is in the report instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    #[error("cannot open the source")]
    OpenSource(#[source] FsError),
    #[error("cannot open the destination")]
    OpenDest(#[source] FsError),
    #[error("the pre-flight check refused the copy: {}", .0.join("; "))]
    Preflight(Vec<String>),
    #[error("cannot use the state directory: {what}")]
    State {
        what: String,
        #[source]
        source: Option<std::io::Error>,
    },
    #[error("another copy into this destination is running (process {pid})")]
    Busy { pid: String },
    #[error("a copying thread panicked")]
    Panicked,
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("not a valid pattern: `{pattern}`")]
    Pattern {
        pattern: String,
        #[source]
        source: globset::Error,
    },
}

/// An entry that could not be copied or compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: RelPath,
    pub error: FsError,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.error.op.phrase(), self.path, self.error.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_failed_and_why_without_its_number() {
        let fault =
            Fault { path: RelPath::parse(b"a/b\n").expect("plain"), error: FsError::new(FsOp::SetOwner, Errno::PERM) };
        assert_eq!(fault.to_string(), "cannot set the owner of `a/b\\x0a`: operation not permitted");
        assert_eq!(fault.error.class, ErrorClass::Denied);
    }

    #[test]
    fn space_quota_and_lost_writes_have_their_classes() {
        for (errno, class) in [
            (Errno::NOSPC, ErrorClass::NoSpace),
            (Errno::DQUOT, ErrorClass::NoSpace),
            (Errno::IO, ErrorClass::Io),
            (Errno::STALE, ErrorClass::Transient),
            (Errno::XDEV, ErrorClass::Escape),
        ] {
            assert_eq!(FsError::new(FsOp::Close, errno).class, class);
        }
    }
}

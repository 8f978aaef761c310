//! Names for the methods of the tree ports, and counts of their calls: what a run costs is pinned by them.

use std::collections::BTreeMap;
use std::fmt;

use copy::FsOp;

/// The end of a copy that an operation belongs to. A destination that is read still counts as destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Source,
    Dest,
}

macro_rules! calls {
    ($($call:ident => $op:ident,)*) => {
        /// One method of the tree ports; finer than [`FsOp`], which calls opening a file and a directory the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Call {
            $($call,)*
        }

        impl Call {
            pub const ALL: &[Self] = &[$(Self::$call,)*];

            /// The word that a fault of this call carries.
            pub fn op(self) -> FsOp {
                match self {
                    $(Self::$call => FsOp::$op,)*
                }
            }
        }
    };
}

calls! {
    Root => Open,
    // `SourceDir`
    DirMetadata => Stat,
    OwnXattrs => ListXattrs,
    OwnFlags => GetFlags,
    List => List,
    Stat => Stat,
    OpenDir => Open,
    OpenFile => Open,
    ReadLink => ReadLink,
    Xattrs => ListXattrs,
    // `SourceFile`
    Read => Read,
    NextData => SeekData,
    FileMetadata => Stat,
    FileXattrs => ListXattrs,
    FileFlags => GetFlags,
    Unwritten => SeekData,
    Thaw => SetFlags,
    // `DestNode`
    NodeMetadata => Stat,
    SetOwner => SetOwner,
    SetMode => SetMode,
    SetTimes => SetTimes,
    NodeXattrs => ListXattrs,
    SetXattr => SetXattr,
    RemoveXattr => RemoveXattr,
    NodeFlags => GetFlags,
    SetFlags => SetFlags,
    // `DestTree`
    Sync => Sync,
    // `DestDir`
    CreateDir => MakeDir,
    Descend => Open,
    CreateFile => Create,
    OpenExisting => Open,
    Hold => Open,
    CreateSymlink => MakeSymlink,
    CreateNode => MakeNode,
    LinkFrom => Link,
    RemoveFile => Remove,
    RemoveDir => Remove,
    // `DestFile`
    Write => Write,
    SetLen => Truncate,
    Allocate => Allocate,
    StartWriteback => Sync,
    Close => Close,
}

impl Call {
    /// Calls that change the tree. Making it durable and closing do not.
    pub fn is_change(self) -> bool {
        matches!(
            self,
            Self::SetOwner
                | Self::SetMode
                | Self::SetTimes
                | Self::SetXattr
                | Self::RemoveXattr
                | Self::SetFlags
                | Self::Thaw
                | Self::CreateDir
                | Self::CreateFile
                | Self::CreateSymlink
                | Self::CreateNode
                | Self::LinkFrom
                | Self::RemoveFile
                | Self::RemoveDir
                | Self::Write
                | Self::SetLen
                | Self::Allocate
        )
    }

    /// Calls that open a regular file.
    pub fn opens_file(self) -> bool {
        matches!(self, Self::OpenFile | Self::OpenExisting | Self::CreateFile)
    }
}

/// How often each method of a tree was called on one side, failed calls included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<Call, u64>);

impl Calls {
    pub(crate) fn add(&mut self, call: Call) {
        *self.0.entry(call).or_default() += 1;
    }

    /// Calls of one method.
    pub fn of(&self, call: Call) -> u64 {
        self.0.get(&call).copied().unwrap_or_default()
    }

    /// Calls of all methods that report faults under `op`.
    pub fn of_op(&self, op: FsOp) -> u64 {
        self.sum(|call| call.op() == op)
    }

    /// Calls that change the tree.
    pub fn changes(&self) -> u64 {
        self.sum(Call::is_change)
    }

    /// Regular files that were opened, for reading or writing.
    pub fn opened_files(&self) -> u64 {
        self.sum(Call::opens_file)
    }

    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Call, u64)> {
        self.0.iter().map(|(call, count)| (*call, *count))
    }

    fn sum(&self, which: impl Fn(Call) -> bool) -> u64 {
        self.iter().filter(|(call, _)| which(*call)).map(|(_, count)| count).sum()
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

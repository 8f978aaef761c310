//! One pass of a job on a repository of backups.

mod directory;
mod restic;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use copy::RelPath;
use job::{BackupPlan, Failure, FailureCode, Format, Kind, Side, Step, WorkEvent, WorkOrder, WorkResult};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Live, Trees};

/// What a pass works with.
struct Pass<'a> {
    order: &'a WorkOrder,
    plan: &'a BackupPlan,
    trees: &'a Trees,
    live: &'a Live,
    tell: &'a (dyn Fn(WorkEvent) + Sync),
    /// The entries that alone take part.
    only: Option<Vec<RelPath>>,
}

pub(super) fn run(
    order: &WorkOrder,
    trees: &Trees,
    live: &Live,
    tell: &(dyn Fn(WorkEvent) + Sync),
    retried: Option<Vec<RelPath>>,
) -> Result<WorkResult, Failure> {
    let plan = order.spec.backup.as_ref().ok_or_else(|| bad("the job does not say what it does in its repository"))?;
    let named: Vec<_> = plan.paths.iter().map(|path| rel_path(path)).collect();
    // What failed among what was asked for, in a retry.
    let only = retried.or(Some(named).filter(|named| !named.is_empty()));
    let pass = Pass { order, plan, trees, live, tell, only };
    match plan.format {
        Format::Directory => directory::run(&pass),
        Format::Restic => restic::run(&pass),
    }
}

impl Pass<'_> {
    /// Where the endpoint of the repository stands.
    fn endpoint(&self) -> &Path {
        match self.order.spec.kind.repository_side() {
            Some(Side::Source) => &self.trees.source,
            Some(Side::Dest) | None => &self.trees.dest,
        }
    }

    /// Holds the directory of the repository. It is found by names below the endpoint, through no link; what is missing
    /// on the way is made for a new backup.
    fn hold_repository(&self) -> Result<Held, Failure> {
        let endpoint = self.endpoint();
        let mut dir =
            rustix::fs::openat(CWD, endpoint, DIR, Mode::empty()).map_err(|errno| cannot("open", endpoint, errno))?;
        for name in self.plan.subdir.iter().flat_map(|subdir| subdir.components()) {
            let Component::Normal(name) = name else { continue };
            if self.order.spec.kind == Kind::Backup {
                match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(cannot("make", Path::new(name), errno)),
                }
            }
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            dir = rustix::fs::openat2(&dir, name, DIR, Mode::empty(), beneath)
                .map_err(|errno| cannot("open", Path::new(name), errno))?;
        }
        Ok(Held(dir))
    }
}

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory, with a path that leads to it whatever happens to its names.
struct Held(OwnedFd);

impl From<Held> for OwnedFd {
    fn from(held: Held) -> Self {
        held.0
    }
}

impl Held {
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// As names: what else a path may have was refused when the job was taken.
fn rel_path(path: &Path) -> RelPath {
    RelPath::from_components(path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        _ => None,
    }))
}

fn cannot(what: &str, path: &Path, errno: Errno) -> Failure {
    let message = format!("cannot {what} the directory `{}` of the repository: {errno}", crate::shown(path));
    Failure::new(Step::Copy, FailureCode::EngineFailed, message)
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Step::Copy, FailureCode::BadSpec, message)
}

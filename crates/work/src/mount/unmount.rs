//! Takes away what was mounted below a workspace.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::{MountContext, MountError, Mounted, helper, reason, table};

/// Between two tries to unmount a tree that is in use.
const PAUSE: Duration = Duration::from_millis(50);

/// More mounts than this on top of each other are no work of ours.
const ROUNDS_MAX: usize = 10_000;

/// Takes everything away, the last first; answers what did not go as it should.
pub(crate) fn unmount_all(cx: &MountContext<'_>, mounted: Vec<Mounted>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut commands_allowed = true;
    for one in mounted.into_iter().rev() {
        if is_free(&one.at) {
            continue;
        }
        if let Some(words) = one.unmount.filter(|_| commands_allowed)
            && let Err(error) = helper::run_unmount(cx, words, &one.at)
        {
            commands_allowed = !error.is_unsafe();
            if let MountError::Failed(failure) = error {
                warnings.push(failure.message);
            }
        }
        let start = Instant::now();
        loop {
            match unmount_below(&one.at, UnmountFlags::empty()) {
                Ok(()) => break,
                Err(Errno::BUSY) if start.elapsed() < cx.settings.busy_timeout => std::thread::sleep(PAUSE),
                Err(errno) => {
                    warnings.push(format!(
                        "`{}` could not be unmounted cleanly ({}) and was detached",
                        crate::shown(&one.at),
                        reason(errno)
                    ));
                    if let Err(errno) = detach_below(&one.at) {
                        warnings.push(format!("`{}` cannot be detached: {}", crate::shown(&one.at), reason(errno)));
                    }
                    break;
                }
            }
        }
    }
    warnings
}

/// Detaches everything that is mounted at or below a path. Nothing there is fine.
pub(crate) fn detach_below(path: &Path) -> Result<(), Errno> {
    unmount_below(path, UnmountFlags::DETACH)
}

fn is_free(path: &Path) -> bool {
    table::below(path).is_ok_and(|mounts| mounts.is_empty())
}

/// From the top of the pile: later mounts cover earlier ones.
fn unmount_below(path: &Path, flags: UnmountFlags) -> Result<(), Errno> {
    for _ in 0..ROUNDS_MAX {
        let mounts = table::below(path).map_err(|_| Errno::IO)?;
        let Some(last) = mounts.last() else { return Ok(()) };
        match unmount(&last.at, flags | UnmountFlags::NOFOLLOW) {
            // Not there any more: it went by itself meanwhile.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

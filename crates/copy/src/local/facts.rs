//! What can be learned of a file system before it is walked.

use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::sys;
use crate::error::{Context as _, FsOp, FsResult};
use crate::tree::TreeFacts;

/// Types whose every operation asks a server. `fuse` is most often one, and a wrong guess is corrected by measuring.
const NETWORK: [&str; 12] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "afs", "lustre", "beegfs", "gpfs", "ocfs2"];
/// Types that fold case always.
const CASE_FOLDING: [&str; 6] = ["vfat", "msdos", "exfat", "ntfs", "hfsplus", "hfs"];

/// Reads the facts of the file system that `root` is on.
pub(super) fn read(root: BorrowedFd<'_>) -> FsResult<TreeFacts> {
    let fs = rustix::fs::fstatfs(root).op(FsOp::StatFs)?;
    let vfs = rustix::fs::fstatvfs(root).op(FsOp::StatFs)?;
    let stat = rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
        .op(FsOp::Stat)?;
    let fs_type = mount_type(stat.stx_mnt_id).unwrap_or_else(|| magic_name(fs.f_type as u64).to_owned());
    let at = sys::At { fd: root, name: c"", held: false };
    let xattrs = sys::list_xattrs(at, &mut []) != Err(Errno::OPNOTSUPP);
    let acls = xattrs && sys::get_xattr(at, c"system.posix_acl_access", &mut []) != Err(Errno::OPNOTSUPP);
    let flags = rustix::fs::ioctl_getflags(root);
    let folds = flags.as_ref().is_ok_and(|flags| flags.bits() & 0x4000_0000 != 0);
    let base = fs_type.split('.').next().unwrap_or(&fs_type);
    let block = vfs.f_frsize.max(1);
    let privileged = rustix::process::geteuid().is_root();
    let location = super::location(root)?;
    Ok(TreeFacts {
        location,
        is_network: NETWORK.contains(&base) || base == "fuse",
        used_bytes: vfs.f_blocks.saturating_sub(vfs.f_bfree).saturating_mul(block),
        used_entries: vfs.f_files.saturating_sub(vfs.f_ffree),
        free_bytes: if privileged { vfs.f_bfree } else { vfs.f_bavail }.saturating_mul(block),
        free_entries: (vfs.f_files > 0).then_some(vfs.f_ffree),
        name_bytes_max: u32::try_from(vfs.f_namemax).unwrap_or(255).max(1),
        case_insensitive: folds || CASE_FOLDING.contains(&base),
        xattrs,
        acls,
        inode_flags: flags.is_ok(),
        reports_holes: !matches!(fs_type.as_str(), "ceph" | "fuse.ceph" | "fuse.ceph-fuse"),
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        read_only: vfs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        umask: umask().unwrap_or(0o7777),
        fs_type,
    })
}

/// The process's umask, read without the usual trick of setting it, which other threads would feel. Where it is not
/// told, every bit counts as taken: modes are then set one by one.
fn umask() -> Option<u32> {
    let text = read_proc("/proc/self/status")?;
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Umask:"))?;
    u32::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 8).ok()
}

/// Looks the mount up in this process's mount table, which alone tells the types of FUSE file systems apart.
fn mount_type(mount_id: u64) -> Option<String> {
    parse_mount_type(&read_proc("/proc/self/mountinfo")?, mount_id)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own files, named here")]
fn read_proc(path: &str) -> Option<Vec<u8>> {
    let fd: OwnedFd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut text).ok()?;
    Some(text)
}

/// `mountinfo` has the id first, and the type after the lone hyphen that ends the optional fields; see `proc(5)`.
fn parse_mount_type(text: &[u8], mount_id: u64) -> Option<String> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let id: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        if id != mount_id {
            return None;
        }
        let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
        std::str::from_utf8(fs_type).ok().map(str::to_owned)
    })
}

fn magic_name(magic: u64) -> &'static str {
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x00c3_6400 => "ceph",
        0x6573_5546 => "fuse",
        _ => "unknown",
    }
}

/// Facts of the temporary directory can be read by anyone; they only have to be plausible.
#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_type_stands_behind_the_hyphen() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/root rw\n36 22 0:30 / /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.ceph-fuse ceph-fuse rw\n";
        assert_eq!(parse_mount_type(table, 36).as_deref(), Some("fuse.ceph-fuse"));
        assert_eq!(parse_mount_type(table, 22).as_deref(), Some("ext4"));
        assert_eq!(parse_mount_type(table, 2), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test names its own directory")]
    fn facts_of_a_directory_are_plausible() {
        let fd = rustix::fs::open(std::env::temp_dir(), OFlags::DIRECTORY, Mode::empty()).expect("open");
        let facts = read(fd.as_fd()).expect("facts");
        assert!(facts.name_bytes_max >= 100 && facts.fs_type != "unknown", "{facts:?}");
    }
}

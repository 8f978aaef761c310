//! File systems of their own for tests that run as root: images on loop devices, and memory.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags};

use super::{SkipReason, TempDir, need_root, say};

/// Disk file systems that tests can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsKind {
    Ext4,
    /// With reflinks.
    Xfs,
    /// With reflinks and inodes made on demand.
    Btrfs,
}

impl FsKind {
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest image that its mkfs takes without complaint.
    pub fn size_bytes_min(self) -> u64 {
        match self {
            Self::Ext4 => 8 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 128 << 20,
        }
    }
}

/// How an image is made and mounted.
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// Sparse; raised to the smallest that the file system can have. Zero for 512 MiB.
    pub size_bytes: u64,
    /// Number of inodes, for ext4.
    pub inodes: Option<u64>,
    /// As after `-o` of mount(8).
    pub mount_options: String,
}

/// A file system in an image file, mounted below a temporary directory.
#[derive(Debug)]
pub struct LoopDisk {
    mount: Mounted,
    // Dropped after the mount, which lies in it.
    _dir: TempDir,
}

impl LoopDisk {
    /// A file system with room for ordinary trees.
    pub fn new(kind: FsKind) -> Result<Self, SkipReason> {
        Self::with_options(kind, &DiskOptions::default())
    }

    /// A file system of about that size, to fill it up.
    pub fn with_size(kind: FsKind, size_bytes: u64) -> Result<Self, SkipReason> {
        Self::with_options(kind, &DiskOptions { size_bytes, ..DiskOptions::default() })
    }

    pub fn with_options(kind: FsKind, options: &DiskOptions) -> Result<Self, SkipReason> {
        need_root()?;
        let dir = TempDir::new();
        let image = dir.path().join("image");
        let size_bytes = if options.size_bytes == 0 { 512 << 20 } else { options.size_bytes };
        let file = File::create_new(&image).unwrap();
        file.set_len(size_bytes.max(kind.size_bytes_min())).unwrap();
        drop(file);
        let mut mkfs = Command::new(format!("mkfs.{}", kind.as_str()));
        match kind {
            // Blocks as in real file systems; small images would get smaller ones. Nothing kept back for root.
            FsKind::Ext4 => mkfs.args(["-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=1"]),
            FsKind::Xfs | FsKind::Btrfs => mkfs.args(["-q", "-f"]),
        };
        if let (FsKind::Ext4, Some(inodes)) = (kind, options.inodes) {
            mkfs.args(["-N", &inodes.to_string()]);
        }
        run(mkfs.arg(&image))?;
        let target = dir.subdir("mount");
        // `mount -o loop` marks the loop device so that it detaches itself when it is unmounted.
        let mount_options =
            ["loop", &options.mount_options].join(if options.mount_options.is_empty() { "" } else { "," });
        let mount =
            || run(Command::new("mount").args(["-t", kind.as_str(), "-o", &mount_options]).arg(&image).arg(&target));
        // Another test can take the free loop device first.
        mount().or_else(|_| mount()).or_else(|_| mount())?;
        let mount = Mounted { target };
        if kind == FsKind::Ext4 {
            // The root of a copy must hold nothing that the test did not put there.
            match std::fs::remove_dir(mount.target.join("lost+found")) {
                Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {}
                removed => removed.unwrap(),
            }
        }
        Ok(Self { mount, _dir: dir })
    }

    /// The root of the file system.
    pub fn path(&self) -> &Path {
        &self.mount.target
    }

    /// Makes a directory in it and gives its path.
    #[track_caller]
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Mounts the file system again with other options, such as `ro`.
    pub fn remount(&self, options: &str) -> Result<(), SkipReason> {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()))
    }
}

/// A file system in memory.
#[derive(Debug)]
pub struct Tmpfs {
    mount: Mounted,
    _dir: TempDir,
}

impl Tmpfs {
    /// `inodes` counts the root too; `None` for as many as there is memory.
    pub fn new(size_bytes: u64, inodes: Option<u64>) -> Result<Self, SkipReason> {
        need_root()?;
        let dir = TempDir::new();
        let target = dir.subdir("mount");
        let options = format!("size={size_bytes},nr_inodes={},mode=0755", inodes.unwrap_or_default());
        let data = CString::new(options).expect("numbers hold no NUL");
        rustix::mount::mount("testkit", &target, "tmpfs", MountFlags::empty(), &*data)
            .map_err(|errno| SkipReason(format!("cannot mount a tmpfs: {errno}")))?;
        Ok(Self { mount: Mounted { target }, _dir: dir })
    }

    /// The root of the file system.
    pub fn path(&self) -> &Path {
        &self.mount.target
    }

    /// Makes a directory in it and gives its path.
    #[track_caller]
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

#[derive(Debug)]
struct Mounted {
    target: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A panicking test may leave open files: then the mount goes when they are closed.
        let unmounted = rustix::mount::unmount(&self.target, UnmountFlags::NOFOLLOW)
            .or_else(|_| rustix::mount::unmount(&self.target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH));
        if let Err(errno) = unmounted {
            say(&format!("cannot unmount `{}`: {errno}", self.target.display()));
        }
    }
}

fn run(command: &mut Command) -> Result<(), SkipReason> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| SkipReason(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(SkipReason(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

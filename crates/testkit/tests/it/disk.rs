//! What is lent comes back.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use testkit::disk::{DiskOptions, FsKind, LoopDisk, SkipReason, TempDir, Tmpfs};
use testkit::lend;

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn disks_are_mounted_and_go_even_when_the_test_panics() {
    for kind in FsKind::ALL {
        let disk = lend!("disks_are_mounted_and_go_even_when_the_test_panics", LoopDisk::new(kind));
        let path = disk.path().to_path_buf();
        assert!(is_mounted(&path));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "a fresh root is empty");
        fs::write(path.join("f"), b"x").unwrap();
        let panicked = catch_unwind(move || {
            let _held = fs::File::open(disk.path().join("f")).unwrap();
            let _disk = disk;
            panic!("as a failing test would");
        });
        assert!(panicked.is_err());
        assert!(!is_mounted(&path) && !path.parent().unwrap().exists());
    }
}

#[test]
fn a_small_disk_fills_up() {
    let options = DiskOptions { size_bytes: 8 << 20, inodes: Some(64), ..DiskOptions::default() };
    let disk = lend!("a_small_disk_fills_up", LoopDisk::with_options(FsKind::Ext4, &options));
    let error = fs::write(disk.path().join("big"), vec![1; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(disk.path().join("big")).unwrap();
    let full = (0..100).find_map(|i| fs::write(disk.path().join(i.to_string()), b"").err());
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
    disk.remount("ro").unwrap();
    let error = fs::write(disk.path().join("0"), b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_small_memory_file_system_fills_up() {
    let tmpfs = lend!("a_small_memory_file_system_fills_up", Tmpfs::new(1 << 20, Some(8)));
    assert!(fs::write(tmpfs.path().join("big"), vec![1; 2 << 20]).is_err());
    let made = (0..20).take_while(|i| fs::write(tmpfs.path().join(i.to_string()), b"").is_ok()).count();
    assert!(made < 8);
    let path = tmpfs.path().to_path_buf();
    drop(tmpfs);
    assert!(!is_mounted(&path));
}

#[test]
fn a_temporary_directory_is_private_and_goes() {
    use std::os::unix::fs::PermissionsExt as _;
    let (a, b) = (TempDir::new(), TempDir::new());
    assert_ne!(a.path(), b.path());
    assert_eq!(fs::metadata(a.path()).unwrap().permissions().mode() & 0o777, 0o700);
    let locked = a.subdir("locked");
    fs::write(locked.join("f"), b"x").unwrap();
    std::os::unix::fs::symlink(b.path(), a.path().join("link")).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let path = a.path().to_path_buf();
    drop(a);
    assert!(!path.exists() && b.path().exists(), "links are removed, not followed");
}

#[test]
fn what_is_mounted_in_a_temporary_directory_is_spared() {
    let outer = TempDir::new();
    let tmpfs = lend!("what_is_mounted_in_a_temporary_directory_is_spared", Tmpfs::new(1 << 20, None));
    fs::write(tmpfs.path().join("precious"), b"x").unwrap();
    let place = outer.subdir("mount");
    rustix::mount::mount_bind(tmpfs.path(), &place).unwrap();
    let path = outer.path().to_path_buf();
    drop(outer);
    assert!(tmpfs.path().join("precious").exists());
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty()).unwrap();
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_skip_has_a_reason() {
    assert_eq!(SkipReason("needs root".into()).to_string(), "needs root");
}

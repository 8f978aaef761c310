//! The state directory, the file system it lies on, and the job store in it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::config::Config;

/// Magic numbers of file systems that forget, or that cannot hold a database with a write-ahead log.
const UNFIT: [(u64, &str); 5] = [
    (0x0102_1994, "tmpfs, which forgets everything at the next boot"),
    (0x6969, "NFS, which cannot hold the job store"),
    (0xff53_4d42, "CIFS, which cannot hold the job store"),
    (0xfe53_4d42, "SMB, which cannot hold the job store"),
    (0x00c3_6400, "CephFS, which cannot hold the job store"),
];

/// Reports of large trees have gigabytes.
const SPACE_BYTES_WANTED: u64 = 1 << 30;

/// Before it this program was not written.
const EARLIEST: Duration = Duration::from_secs(1_750_000_000);

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![directory(&config.state_path)];
    checks.extend(file_system(&config.state_path));
    checks.push(store(&config.job_store));
    checks.push(clock());
    checks
}

fn directory(path: &Path) -> Check {
    const NAME: &str = "state directory";
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::ok(NAME, format!("`{shown}` is not there yet; the service makes it"))
        }
        Err(error) => Check::fail(NAME, format!("`{shown}`: {error}"), "check the directories above it"),
        Ok(meta) if !meta.is_dir() => {
            Check::fail(NAME, format!("`{shown}` is no directory"), "name another with `state_path`")
        }
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => Check::fail(
            NAME,
            format!("`{shown}` belongs to user {}", meta.uid()),
            "run the command as the service's user, or give the directory to the service",
        ),
        Ok(meta) if meta.mode() & 0o077 != 0 => Check::fail(
            NAME,
            format!("`{shown}` is open to others (mode {:04o})", meta.mode() & 0o7777),
            format!("chmod 0700 {shown}"),
        ),
        Ok(_) => Check::ok(NAME, shown.to_string()),
    }
}

fn file_system(path: &Path) -> Option<Check> {
    const NAME: &str = "state file system";
    let existing = path.ancestors().find(|path| path.exists())?;
    let facts = rustix::fs::statfs(existing).ok()?;
    let magic = facts.f_type as u64 & 0xffff_ffff;
    if let Some((_, what)) = UNFIT.iter().find(|(unfit, _)| *unfit == magic) {
        let advice = "put `state_path` on a local file system that outlives a boot: ext4, xfs, btrfs";
        return Some(Check::fail(NAME, format!("{} is on {what}", existing.display()), advice));
    }
    let free = u64::try_from(facts.f_bsize).unwrap_or(0).saturating_mul(facts.f_bavail);
    let shown = format!("{} free", crate::ui::units::Bytes(free));
    Some(if free < SPACE_BYTES_WANTED {
        Check::warn(NAME, shown, "make room: reports of large trees take gigabytes")
    } else {
        Check::ok(NAME, shown)
    })
}

/// Where SQLite keeps the mark of the program that a database belongs to, and ours.
const MARK_AT: usize = 68;
const MARK: &[u8; 4] = b"mdjs";

/// Looks at the head of the file alone: opening it is for the service that owns it.
fn store(location: &str) -> Check {
    const NAME: &str = "job store";
    const HEADER: &[u8; 16] = b"SQLite format 3\0";
    let path = location.strip_prefix("sqlite://").or_else(|| location.strip_prefix("sqlite:")).unwrap_or(location);
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut head));
    let foreign = |what: &str| {
        Check::fail(NAME, format!("`{path}` is {what}"), "move it away, or name another file with `job_store`")
    };
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::ok(NAME, format!("`{path}` is not there yet; the service makes it"))
        }
        Err(error) => Check::fail(NAME, format!("`{path}`: {error}"), "run the command as the service's user"),
        // A file that was made and not written yet.
        Ok(0) => Check::ok(NAME, format!("`{path}` is new")),
        Ok(_) if !head.starts_with(HEADER) => foreign("no SQLite database"),
        Ok(_) if head.get(MARK_AT..MARK_AT + MARK.len()) != Some(MARK) => foreign("the database of another program"),
        Ok(_) => Check::ok(NAME, path),
    }
}

fn clock() -> Check {
    const NAME: &str = "clock";
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(now) if now >= EARLIEST => {
            Check::ok(NAME, jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        }
        _ => Check::fail(NAME, "is years behind", "set it: leases, deadlines and retention depend on it"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_directory_that_others_may_read_fails_with_the_remedy() {
        let dir = std::env::temp_dir().join(format!("manila-data-doctor-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let check = directory(&dir);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.advice.is_some_and(|advice| advice.contains("chmod 0700")));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(directory(&dir).verdict, Verdict::Ok);
        assert_eq!(directory(&dir.join("missing")).verdict, Verdict::Ok);
        std::fs::write(dir.join("file"), "text that is no database").unwrap();
        assert_eq!(directory(&dir.join("file")).verdict, Verdict::Fail);
        assert_eq!(store(&dir.join("file").display().to_string()).verdict, Verdict::Fail);
        assert_eq!(store(&format!("sqlite://{}", dir.join("none").display())).verdict, Verdict::Ok);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_state_does_not_belong_on_a_file_system_that_forgets() {
        let is_tmpfs = rustix::fs::statfs("/dev/shm").is_ok_and(|facts| facts.f_type as u64 == 0x0102_1994);
        if is_tmpfs {
            assert_eq!(file_system(Path::new("/dev/shm/a/b")).map(|check| check.verdict), Some(Verdict::Fail));
        }
    }
}

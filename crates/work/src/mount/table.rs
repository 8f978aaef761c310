//! The kernel's table of mounts: what stands where, with which protections.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) at: PathBuf,
    /// Of the mount itself; the file system has others.
    pub(super) options: Vec<String>,
    /// It came by propagation: somebody outside the worker made it.
    pub(super) is_foreign: bool,
}

impl Mount {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }
}

/// The mounts at or below a path, in the order of their making: what covers others comes later.
#[expect(clippy::disallowed_methods, reason = "the kernel's own files, named here")]
pub(super) fn below(path: &Path) -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).filter(|mount| mount.at.starts_with(path)).collect())
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let at = unescape(fields.nth(3)?);
    let options = str::from_utf8(fields.next()?).ok()?.split(',').map(Into::into).collect();
    let is_foreign = fields.take_while(|field| *field != b"-").any(|field| field.starts_with(b"master:"));
    Some(Mount { id, at: PathBuf::from(OsStr::from_bytes(&at)), options, is_foreign })
}

/// White space and backslashes of paths are three octal digits there.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = digits {
            plain.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &tail[3..];
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c\012 ro,nosuid,nodev master:1 - ext3 /dev/root rw,errors=x";
        let mount = parse(line).expect("a line");
        assert_eq!((mount.id, mount.at.as_path()), (36, Path::new("/mnt/a b\\c\n")));
        assert!(mount.has("nodev") && mount.has("ro") && !mount.has("rw") && !mount.has("no") && mount.is_foreign);
        assert!(!parse(b"36 35 98:0 / /mnt ro - ext3 master:1 rw").expect("a line").is_foreign);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 98:0 /"), None);
    }

    #[test]
    fn the_table_of_this_process_has_proc() {
        assert!(below(Path::new("/proc")).expect("a table").iter().any(|mount| mount.at == Path::new("/proc")));
    }
}

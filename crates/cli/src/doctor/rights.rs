//! Capabilities and limits of this process, which its workers inherit.

use rustix::process::{Resource, geteuid, getrlimit};

use super::Check;

/// Capabilities by their bit in the kernel's mask, and what needs each.
const WANTED: [(&str, u32, &str); 8] = [
    ("CAP_CHOWN", 0, "owners"),
    ("CAP_DAC_OVERRIDE", 1, "writing where only others may"),
    ("CAP_DAC_READ_SEARCH", 2, "reading what only others may"),
    ("CAP_FOWNER", 3, "modes, times and ACLs of other people's files"),
    ("CAP_FSETID", 4, "setuid and setgid bits"),
    ("CAP_SYS_ADMIN", 21, "mounts, namespaces and `trusted` attributes"),
    ("CAP_MKNOD", 27, "device nodes"),
    ("CAP_SETFCAP", 31, "file capabilities"),
];

/// What a service that is not root needs beside these, because mount programs do nothing for others.
const WANTED_OF_OTHERS: [(&str, u32, &str); 3] = [
    ("CAP_KILL", 5, "ending mount programs that hang"),
    ("CAP_SETGID", 6, "running mount programs as root"),
    ("CAP_SETUID", 7, "running mount programs as root"),
];

/// A job has some hundred files open, and each connection takes one more.
const OPEN_FILES_MIN: u64 = 4096;

pub(super) fn checks() -> Vec<Check> {
    vec![capabilities(), open_files()]
}

fn capabilities() -> Check {
    const NAME: &str = "capabilities";
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(mask) = effective_mask(&status) else {
        return Check::warn(NAME, "/proc/self/status cannot be read", "mount /proc");
    };
    let missing = missing(mask, geteuid().is_root());
    if missing.is_empty() {
        return Check::ok(NAME, "all that jobs need");
    }
    let list: Vec<_> = missing.iter().map(|(name, _, need)| format!("{name} ({need})")).collect();
    Check::warn(
        NAME,
        format!("missing: {}", list.join(", ")),
        "run the service as root, or give it these (AmbientCapabilities= of systemd); what they allow is reported as \
         lost or cannot be done without them",
    )
}

fn effective_mask(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(mask: u64, is_root: bool) -> Vec<&'static (&'static str, u32, &'static str)> {
    let of_others = WANTED_OF_OTHERS.iter().filter(|_| !is_root);
    WANTED.iter().chain(of_others).filter(|(_, bit, _)| mask & (1 << bit) == 0).collect()
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES_MIN => Check::warn(
            NAME,
            format!("at most {limit}"),
            format!("raise the limit to {OPEN_FILES_MIN} or more (`ulimit -n`, LimitNOFILE= of systemd)"),
        ),
        Some(limit) => Check::ok(NAME, format!("at most {limit}")),
        None => Check::ok(NAME, "without limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(effective_mask("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert!(missing(0x1ff_ffff_ffff, false).is_empty());
        assert_eq!(missing(0, true).len(), WANTED.len());
        assert_eq!(missing(0, false).len(), WANTED.len() + WANTED_OF_OTHERS.len());
        let without_admin = missing(!(1 << 21), false);
        assert_eq!(without_admin.iter().map(|wanted| wanted.0).collect::<Vec<_>>(), ["CAP_SYS_ADMIN"]);
    }
}

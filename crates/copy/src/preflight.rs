//! Looks at both trees before a byte is moved, and says in clear words what would go wrong.

use crate::engine::CopyContext;
use crate::error::{CopyError, ErrorClass, FsError, FsOp};
use crate::meta::FileId;
use crate::options::{CopyOptions, OnLoss};
use crate::path::escape;
use crate::tree::TreeFacts;

/// What the look at both trees found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Good to know; nothing will go wrong.
    Note(String),
    /// The copy will go through, but something may be lost or missing.
    Warning(String),
    /// The copy cannot be right.
    Refusal(String),
}

/// Compares the facts of both trees with what is asked for.
pub fn preflight(cx: &CopyContext<'_>, options: &CopyOptions) -> Result<Vec<Finding>, CopyError> {
    let source = cx.source.root().and_then(|root| root.metadata()).map_err(CopyError::OpenSource)?;
    let dest = cx.dest.root().and_then(|root| root.metadata()).map_err(CopyError::OpenDest)?;
    if source.kind != crate::EntryKind::Dir || dest.kind != crate::EntryKind::Dir {
        return Err(CopyError::OpenSource(FsError::found(FsOp::Open, ErrorClass::Changed)));
    }
    Ok(compare_facts((cx.source.facts(), source.id), (cx.dest.facts(), dest.id), options))
}

fn compare_facts(
    (source, source_id): (&TreeFacts, FileId),
    (dest, dest_id): (&TreeFacts, FileId),
    options: &CopyOptions,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let one_file_system = source.device == dest.device;
    if source_id == dest_id && one_file_system {
        findings.push(Finding::Refusal("source and destination are the same directory".into()));
    } else if one_file_system && lies_in(&dest.location, &source.location) {
        findings.push(Finding::Refusal(format!(
            "the destination `{}` lies inside the source: it would be copied into itself without end",
            escape(&dest.location)
        )));
    } else if one_file_system && lies_in(&source.location, &dest.location) {
        findings.push(Finding::Refusal(format!(
            "the source `{}` lies inside the destination: the copy would change what it reads",
            escape(&source.location)
        )));
    } else if one_file_system {
        findings.push(Finding::Note("source and destination are on one file system".into()));
    }
    if dest.read_only && !options.dry_run {
        findings.push(Finding::Refusal("the destination is mounted read-only".into()));
    }
    if !one_file_system {
        room(source, dest, &mut findings);
    }
    let mut lost = Vec::new();
    if source.xattrs && !dest.xattrs {
        lost.push("extended attributes");
    }
    if source.acls && !dest.acls {
        lost.push("POSIX ACLs");
    }
    if !lost.is_empty() {
        let text = format!("the destination ({}) does not take {}", dest.fs_type, lost.join(" and "));
        findings.push(match options.on_loss {
            // Whether an entry has any is seen on the way; then the run ends as failed.
            OnLoss::Fail => Finding::Warning(format!("{text}: the copy fails if an entry has them")),
            OnLoss::Report => Finding::Warning(format!("{text}: what entries have of them is lost and reported")),
        });
    }
    if source.name_bytes_max > dest.name_bytes_max {
        findings.push(Finding::Warning(format!(
            "names may have {} bytes in the source and {} in the destination: longer ones cannot be copied",
            source.name_bytes_max, dest.name_bytes_max
        )));
    }
    if dest.case_insensitive && !source.case_insensitive {
        findings.push(Finding::Warning(
            "the destination does not tell upper from lower case: of names that differ only in that, one can be copied"
                .into(),
        ));
    }
    findings
}

/// The file system's own use is an upper bound of the tree's, and the destination may hold a part of it already: only
/// what cannot fit into the whole destination is worth a word.
fn room(source: &TreeFacts, dest: &TreeFacts, findings: &mut Vec<Finding>) {
    let capacity = dest.used_bytes.saturating_add(dest.free_bytes);
    if source.used_bytes > capacity {
        findings.push(Finding::Warning(format!(
            "the source's file system holds {} MiB, the destination's has room for {} MiB in all: the copy may not fit",
            source.used_bytes >> 20,
            capacity >> 20
        )));
    } else if dest.free_bytes == 0 {
        findings.push(Finding::Warning("the destination has no space left".into()));
    }
    if let Some(free) = dest.free_entries {
        let capacity = dest.used_entries.saturating_add(free);
        if source.used_entries > capacity {
            findings.push(Finding::Warning(format!(
                "the source's file system holds {} entries, the destination's has inodes for {capacity} in all: the copy may not fit",
                source.used_entries
            )));
        }
    }
}

fn lies_in(inner: &[u8], outer: &[u8]) -> bool {
    let outer = outer.strip_suffix(b"/").unwrap_or(outer);
    inner.strip_prefix(outer).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(location: &str, device: u64) -> TreeFacts {
        TreeFacts { location: location.into(), device, ..TreeFacts::plain("ext4") }
    }

    fn check(source: &TreeFacts, dest: &TreeFacts, options: &CopyOptions) -> Vec<Finding> {
        let id = |facts: &TreeFacts| FileId { device: facts.device, inode: facts.location.len() as u64 };
        compare_facts((source, id(source)), (dest, id(dest)), options)
    }

    fn refusal(findings: &[Finding], word: &str) -> bool {
        findings.iter().any(|f| matches!(f, Finding::Refusal(text) if text.contains(word)))
    }

    fn warning(findings: &[Finding], word: &str) -> bool {
        findings.iter().any(|f| matches!(f, Finding::Warning(text) if text.contains(word)))
    }

    #[test]
    fn trees_inside_each_other_are_refused() {
        let options = CopyOptions::default();
        assert!(refusal(&check(&facts("/a", 1), &facts("/a/b", 1), &options), "inside the source"));
        assert!(refusal(&check(&facts("/a/b", 1), &facts("/a", 1), &options), "inside the destination"));
        assert!(refusal(&check(&facts("/a/b", 1), &facts("/", 1), &options), "inside the destination"));
        assert!(refusal(&check(&facts("/a", 1), &facts("/a", 1), &options), "same directory"));
        // Neighbours, and a mount of another file system below the source, are fine.
        assert_eq!(check(&facts("/a", 1), &facts("/ab", 1), &options).len(), 1);
        assert_eq!(check(&facts("/a", 1), &facts("/a/mnt", 2), &options), []);
    }

    #[test]
    fn a_read_only_destination_is_refused_unless_nothing_is_written() {
        let dest = TreeFacts { read_only: true, ..facts("/b", 2) };
        assert!(refusal(&check(&facts("/a", 1), &dest, &CopyOptions::default()), "read-only"));
        let dry = CopyOptions { dry_run: true, ..CopyOptions::default() };
        assert_eq!(check(&facts("/a", 1), &dest, &dry), []);
    }

    #[test]
    fn what_the_destination_cannot_hold_is_said() {
        let mut source = facts("/a", 1);
        source.used_bytes = 10 << 30;
        source.used_entries = 1000;
        let dest = TreeFacts {
            xattrs: false,
            acls: false,
            name_bytes_max: 143,
            case_insensitive: true,
            free_bytes: 1 << 30,
            free_entries: Some(10),
            ..facts("/b", 2)
        };
        let findings = check(&source, &dest, &CopyOptions::default());
        for word in ["extended attributes and POSIX ACLs", "143", "case", "10240 MiB", "1000 entries"] {
            assert!(warning(&findings, word), "{word}: {findings:?}");
        }
    }
}

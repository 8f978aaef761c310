//! Which entries take part: exact names to ignore, and globs.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::CopyError;

/// Decides by an entry's name and path. What is left out in the source is left alone in the destination, too.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    names: HashSet<Box<[u8]>>,
    exclude: Option<GlobSet>,
    include: Option<GlobSet>,
}

impl Filter {
    /// `names`: exact bytes, of files or directories at any depth (Manila's ignore list). `exclude`: globs; one with a
    /// slash is matched against the path from the root, one without against the name at any depth. `include`: when
    /// given, only files whose name or path matches take part (directories always do, so that they are reached).
    pub fn new(names: &[Vec<u8>], exclude: &[String], include: &[String]) -> Result<Self, CopyError> {
        Ok(Self {
            names: names.iter().map(|n| n.clone().into_boxed_slice()).collect(),
            exclude: globs(exclude)?,
            include: globs(include)?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.exclude.is_none() && self.include.is_none()
    }

    /// Whether paths are needed, which cost more to make than names.
    pub(crate) fn needs_paths(&self) -> bool {
        self.exclude.is_some() || self.include.is_some()
    }

    pub(crate) fn ignores_name(&self, name: &[u8]) -> bool {
        !self.names.is_empty() && self.names.contains(name)
    }

    /// `path` is relative to the root, `is_dir` that of the source entry.
    pub(crate) fn leaves_out(&self, path: &[u8], is_dir: bool) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if self.exclude.as_ref().is_some_and(|set| set.is_match(path)) {
            return true;
        }
        !is_dir && self.include.as_ref().is_some_and(|set| !set.is_match(path))
    }
}

fn globs(patterns: &[String]) -> Result<Option<GlobSet>, CopyError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let error = |source| CopyError::Pattern { pattern: pattern.clone(), source };
        let trimmed = pattern.trim_end_matches('/');
        // As in rsync and git: a pattern with a slash is anchored at the root, one without matches at any depth.
        let anchored = if let Some(rest) = trimmed.strip_prefix('/') {
            rest.to_owned()
        } else if trimmed.contains('/') {
            trimmed.to_owned()
        } else {
            format!("**/{trimmed}")
        };
        set.add(GlobBuilder::new(&anchored).literal_separator(true).build().map_err(error)?);
    }
    let error = |source| CopyError::Pattern { pattern: patterns.join(" "), source };
    Ok(Some(set.build().map_err(error)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(names: &[&[u8]], exclude: &[&str], include: &[&str]) -> Filter {
        let names: Vec<_> = names.iter().map(|n| n.to_vec()).collect();
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Filter::new(&names, &strings(exclude), &strings(include)).expect("valid patterns")
    }

    #[test]
    fn names_are_exact_bytes() {
        let f = filter(&[b".snapshot", b"\xff"], &[], &[]);
        assert!(f.ignores_name(b".snapshot") && f.ignores_name(b"\xff"));
        assert!(!f.ignores_name(b".snapshot2") && !f.ignores_name(b".SNAPSHOT"));
        assert!(!f.needs_paths());
    }

    #[test]
    fn globs_without_a_slash_match_at_any_depth_and_others_from_the_root() {
        let f = filter(&[], &["*.tmp", "/cache", "a/*/c"], &[]);
        assert!(f.leaves_out(b"x.tmp", false) && f.leaves_out(b"d/\xff.tmp", false));
        assert!(f.leaves_out(b"cache", true) && !f.leaves_out(b"d/cache", true));
        assert!(f.leaves_out(b"a/b/c", false) && !f.leaves_out(b"a/b/b/c", false));
    }

    #[test]
    fn an_include_list_keeps_directories_reachable() {
        let f = filter(&[], &["skip*"], &["*.c"]);
        assert!(!f.leaves_out(b"d", true) && !f.leaves_out(b"d/x.c", false));
        assert!(f.leaves_out(b"d/x.h", false) && f.leaves_out(b"d/skip.c", false));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Filter::new(&[], &["a[".into()], &[]).expect_err("must be refused");
        assert_eq!(error.to_string(), "not a valid pattern: `a[`");
    }
}

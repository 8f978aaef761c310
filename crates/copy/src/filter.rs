//! Which entries take part: exact names to ignore, globs, and a list of paths.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::CopyError;
use crate::path::RelPath;

/// Decides by an entry's name and path. What is left out in the source is left alone in the destination, too.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    names: HashSet<Box<[u8]>>,
    exclude: Option<GlobSet>,
    include: Option<GlobSet>,
    only: Option<Arc<Only>>,
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
            only: None,
        })
    }

    /// Takes part then only what is at these paths, what is below them, and the directories that lead there; nothing
    /// else is entered. Other names of a file with several are left out too, and are not found as its hard links.
    #[must_use]
    pub fn only(mut self, paths: impl IntoIterator<Item = RelPath>) -> Self {
        self.only = Some(Arc::new(Only::new(paths)));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.needs_paths()
    }

    /// Whether paths are needed, which cost more to make than names.
    pub fn needs_paths(&self) -> bool {
        self.exclude.is_some() || self.include.is_some() || self.only.is_some()
    }

    /// Whether entries of this name take no part, wherever they are.
    pub fn ignores_name(&self, name: &[u8]) -> bool {
        !self.names.is_empty() && self.names.contains(name)
    }

    /// Whether this entry takes no part. `path` is relative to the root, `is_dir` that of the source entry.
    pub fn leaves_out(&self, path: &[u8], is_dir: bool) -> bool {
        let takes_part = |only: &Arc<Only>| only.holds(path) || is_dir && only.leads_from(path);
        if self.only.as_ref().is_some_and(|only| !takes_part(only)) {
            return true;
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if self.exclude.as_ref().is_some_and(|set| set.is_match(path)) {
            return true;
        }
        !is_dir && self.include.as_ref().is_some_and(|set| !set.is_match(path))
    }
}

/// Paths in the order of their bytes: what is below a directory stands together, so that both questions are look-ups.
#[derive(Debug)]
struct Only(Vec<RelPath>);

impl Only {
    fn new(paths: impl IntoIterator<Item = RelPath>) -> Self {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_unstable();
        paths.dedup();
        Self(paths)
    }

    /// The path, or a directory above it, was named.
    fn holds(&self, path: &[u8]) -> bool {
        let named = |path: &[u8]| self.0.binary_search_by(|named| named.as_bytes().cmp(path)).is_ok();
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        named(b"") || above.into_iter().any(named) || named(path)
    }

    /// Something below the path was named.
    fn leads_from(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        let first = self.0.partition_point(|named| named.as_bytes() < below.as_slice());
        self.0.get(first).is_some_and(|named| named.as_bytes().starts_with(&below))
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
    fn a_list_of_paths_takes_what_is_below_them_and_the_way_there() {
        let paths = |list: &[&[u8]]| list.iter().map(|p| RelPath::parse(p).expect("a path")).collect::<Vec<_>>();
        let f = Filter::default().only(paths(&[b"a/b", b"x/y/z", b"a-b"]));
        let check = |path: &[u8], is_dir, takes_part| assert_eq!(!f.leaves_out(path, is_dir), takes_part, "{path:?}");
        for named in [&b"a/b"[..], b"a/b/c", b"a/b/c/d", b"x/y/z", b"a-b"] {
            check(named, false, true);
            check(named, true, true);
        }
        for way in [&b"a"[..], b"x", b"x/y"] {
            check(way, true, true);
            check(way, false, false);
        }
        for other in [&b"b"[..], b"a/bb", b"a/b-c", b"a/a", b"x/y/zz", b"x/z", b"a-", b"a-b-c"] {
            check(other, true, false);
        }
        assert!(Filter::default().only(paths(&[])).leaves_out(b"a", true), "an empty list takes nothing");
        assert!(!Filter::default().only(paths(&[b""])).leaves_out(b"a/b", false), "the root stands for everything");
        assert!(!Filter::default().only(paths(&[])).is_empty());
        let f = filter(&[], &["*.tmp"], &[]).only(paths(&[b"a"]));
        assert!(f.leaves_out(b"a/x.tmp", false) && !f.leaves_out(b"a/x", false), "globs count as well");
    }

    #[test]
    fn a_long_list_is_looked_up_and_not_searched_through() {
        let list = (0..100_000).map(|n| RelPath::parse(format!("d{}/f{n}", n % 100).as_bytes()).expect("a path"));
        let f = Filter::default().only(list);
        // A hundred times a search through the list would be 10^10 comparisons, which nobody would wait for.
        for n in 0..100_000 {
            assert!(!f.leaves_out(format!("d{}/f{n}", n % 100).as_bytes(), false));
            assert!(f.leaves_out(format!("d{}/f{n}", (n + 1) % 100).as_bytes(), false));
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Filter::new(&[], &["a[".into()], &[]).expect_err("must be refused");
        assert_eq!(error.to_string(), "not a valid pattern: `a[`");
    }
}

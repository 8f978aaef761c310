//! Which directories and mounts callers may name. Textual: the worker itself resolves paths without following symlinks.

use std::path::{Component, Path, PathBuf};

use job::spec::{Endpoint, JobSpec};

/// Where the endpoints of a caller may lie, and how they may be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permits<'a> {
    /// `None`: anywhere.
    pub(crate) roots: Option<&'a [PathBuf]>,
    pub(crate) mounts: bool,
}

/// What is not permitted, as one sentence for each endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Path(String),
    Mount(String),
}

pub(crate) fn check(spec: &JobSpec, permits: Permits<'_>) -> Result<(), Refusal> {
    check_endpoint("source", &spec.source, permits)?;
    check_endpoint("dest", &spec.dest, permits)
}

fn check_endpoint(side: &str, endpoint: &Endpoint, permits: Permits<'_>) -> Result<(), Refusal> {
    match endpoint {
        Endpoint::Directory { path } => check_path(side, path, permits.roots),
        Endpoint::Url { .. } if !permits.mounts => Err(Refusal::Mount(format!(
            "{side}: callers of this door may not have the service connect to a URL; name a repository of its \
             configuration, or `allow_mounts` would let them"
        ))),
        Endpoint::Mount { .. } | Endpoint::Command { .. } if !permits.mounts => Err(Refusal::Mount(format!(
            "{side}: callers of this door may not have anything mounted; `allow_mounts` would let them"
        ))),
        // A bind mount or a loop device of a path is that path by another name.
        Endpoint::Mount { source, .. } if source.starts_with('/') && !source.starts_with("//") => {
            check_path(side, Path::new(source), permits.roots)
        }
        Endpoint::Mount { .. } | Endpoint::Command { .. } | Endpoint::Url { .. }
        // What the operator lets jobs use.
        | Endpoint::None | Endpoint::Repository { .. } => Ok(()),
    }
}

fn check_path(side: &str, path: &Path, roots: Option<&[PathBuf]>) -> Result<(), Refusal> {
    let Some(roots) = roots else { return Ok(()) };
    // `a/link/..` is another place than `a`, and only the kernel knows which.
    let is_plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    // Compares whole components, so that `/srv/a` does not permit `/srv/ab`.
    if is_plain && roots.iter().any(|root| path.starts_with(root)) {
        return Ok(());
    }
    Err(Refusal::Path(format!("{side}: `{}` lies in no directory that the service allows", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> Endpoint {
        Endpoint::Directory { path: path.into() }
    }

    fn mount(source: &str) -> Endpoint {
        Endpoint::Mount { fs_type: "ext4".into(), source: source.into(), options: vec![], subdir: None }
    }

    #[test]
    fn paths_are_compared_by_whole_components_after_cleaning() {
        let roots = [PathBuf::from("/srv/a"), PathBuf::from("/data/")];
        let check = |path: &str, expected: bool| {
            let permits = Permits { roots: Some(&roots), mounts: true };
            assert_eq!(check_endpoint("source", &directory(path), permits).is_ok(), expected, "{path}");
            assert_eq!(check_endpoint("source", &mount(path), permits).is_ok(), expected, "mount of {path}");
        };
        for path in ["/srv/a", "/srv/a/", "/srv/a/b", "/srv//a/./b", "/data/x", "/data"] {
            check(path, true);
        }
        for path in ["/srv/ab", "/srv", "/", "/srv/a/../b", "/data/..", "/etc"] {
            check(path, false);
        }
        let permits = Permits { roots: Some(&roots), mounts: true };
        assert!(check_endpoint("source", &directory("srv/a"), permits).is_err(), "a relative path is nowhere");
        for source in ["host:/export", "//host/share"] {
            assert_eq!(check_endpoint("source", &mount(source), permits), Ok(()), "{source} is no local path");
        }
    }

    #[test]
    fn without_roots_everything_is_allowed_and_with_none_of_them_nothing() {
        let spec = JobSpec::new(job::Kind::Copy, directory("/x"), directory("/y"));
        assert_eq!(check(&spec, Permits { roots: None, mounts: false }), Ok(()));
        assert!(matches!(check(&spec, Permits { roots: Some(&[]), mounts: true }), Err(Refusal::Path(_))));
    }

    #[test]
    fn mounts_are_for_those_who_may() {
        let command = Endpoint::Command { mount: job::Sensitive::new("mount x"), unmount: None, options: None };
        for endpoint in [mount("host:/x"), command] {
            let spec = JobSpec::new(job::Kind::Copy, endpoint, directory("/y"));
            assert!(matches!(check(&spec, Permits { roots: None, mounts: false }), Err(Refusal::Mount(_))));
            assert_eq!(check(&spec, Permits { roots: None, mounts: true }), Ok(()));
        }
    }
}

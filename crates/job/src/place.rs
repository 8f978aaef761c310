//! Where an endpoint is, as far as its words tell: which storage host serves it, and whether two of them overlap.
//!
//! A guess, for scheduling: two names of one host are two hosts.

use std::path::{Component, Path, PathBuf};

use crate::model::Side;
use crate::spec::{Endpoint, JobSpec, Kind};

/// A tree, by the name of what holds it and the way from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A host, a device or a command; nothing for this machine's own directories.
    holder: String,
    path: PathBuf,
    is_host: bool,
}

impl Place {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::None => Self { holder: "nowhere".into(), path: "/".into(), is_host: false },
            Endpoint::Repository { name } => {
                Self { holder: format!("repository {name}"), path: "/".into(), is_host: false }
            }
            Endpoint::Url { url } => Self::of_url(url.shown()),
            Endpoint::Directory { path } => Self { holder: String::new(), path: tidy(path), is_host: false },
            Endpoint::Mount { source, subdir, .. } => {
                let mut place = Self::of_source(source);
                if let Some(subdir) = subdir {
                    place.path = place.path.join(tidy(subdir).strip_prefix("/").unwrap_or(Path::new("")));
                }
                place
            }
            Endpoint::Command { mount, .. } => {
                let words = mount.expose().split_ascii_whitespace().map(|word| word.trim_matches(['"', '\'']));
                let named = words.filter(|word| !word.starts_with('-')).map(Self::of_source);
                let place = named.into_iter().find(|place| place.is_host);
                place.unwrap_or_else(|| Self { holder: mount.expose().into(), path: "/".into(), is_host: false })
            }
        }
    }

    /// `rest:https://user@host:port/path`.
    fn of_url(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { holder: host.to_ascii_lowercase(), path: tidy(Path::new(path)), is_host: is_host(host) }
    }

    /// `host:/export`, `[v6]:/export`, `a,b:/volume`, `//host/share`; anything else is a device or a name of its own.
    fn of_source(source: &str) -> Self {
        let split = if let Some(rest) = source.strip_prefix("//") {
            rest.split_once('/').map_or(Some((rest, "/")), |(host, _)| Some((host, &rest[host.len()..])))
        } else {
            source.split_once(":/").map(|(host, _)| (host, &source[host.len() + 1..]))
        };
        match split {
            Some((host, path)) if is_host(host) => {
                Self { holder: host.to_ascii_lowercase(), path: tidy(Path::new(path)), is_host: true }
            }
            _ => Self { holder: source.into(), path: "/".into(), is_host: false },
        }
    }

    pub(crate) fn host(&self) -> Option<&str> {
        self.is_host.then_some(self.holder.as_str())
    }

    /// The same tree, or one within the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.holder == other.holder && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}

/// What a job needs for itself while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    place: Place,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Nobody else may be at work there.
    Whole,
    /// One backup of a repository, which others of it do not mind.
    Backup { id: Option<String>, is_changed: bool },
}

impl Claim {
    /// Of both sides. A source that is a tree is only read, and so are destinations that are compared; of these, what
    /// is written meanwhile would show as differences.
    pub(crate) fn of(spec: &JobSpec) -> Vec<Self> {
        let Some((side, plan)) = spec.kind.repository_side().zip(spec.backup.as_ref()) else {
            return vec![Self { place: Place::of(&spec.dest), part: Part::Whole }];
        };
        let mut repository = Place::of(if side == Side::Source { &spec.source } else { &spec.dest });
        if let Some(subdir) = &plan.subdir {
            repository.path = repository.path.join(tidy(subdir).strip_prefix("/").unwrap_or(Path::new("")));
        }
        let part = match spec.kind {
            Kind::Prune => Part::Whole,
            kind => Part::Backup { id: plan.id.clone(), is_changed: matches!(kind, Kind::Backup | Kind::Delete) },
        };
        let mut claims = vec![Self { place: repository, part }];
        if spec.kind == Kind::Restore {
            claims.push(Self { place: Place::of(&spec.dest), part: Part::Whole });
        }
        claims
    }

    /// Both cannot be at work at the same time.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        self.place.overlaps(&other.place)
            && match (&self.part, &other.part) {
                (Part::Whole, _) | (_, Part::Whole) => true,
                (Part::Backup { id: one, is_changed: a }, Part::Backup { id: two, is_changed: b }) => {
                    one.is_some() && one == two && (*a || *b)
                }
            }
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | ',' | '%'))
}

/// Absolute, without `.` and doubled slashes; `..` is refused when a job is made, and cut here.
fn tidy(path: &Path) -> PathBuf {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Path::new("/").join(names.collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitive::Sensitive;

    fn dir(path: &str) -> Place {
        Place::of(&Endpoint::Directory { path: path.into() })
    }

    fn mount(source: &str, subdir: Option<&str>) -> Place {
        Place::of(&Endpoint::Mount {
            fs_type: "nfs".into(),
            source: source.into(),
            options: Vec::new(),
            subdir: subdir.map(Into::into),
        })
    }

    fn command(mount: &str) -> Place {
        Place::of(&Endpoint::Command { mount: Sensitive::new(mount), unmount: None, options: None })
    }

    #[test]
    fn hosts_are_found_in_sources_and_commands() {
        let check = |place: &Place, host: Option<&str>| assert_eq!(place.host(), host, "{place:?}");
        check(&mount("Nas.example:/x", None), Some("nas.example"));
        check(&mount("[fe80::1%eth0]:/x", None), Some("[fe80::1%eth0]"));
        check(&mount("10.0.0.1:6789,10.0.0.2:6789:/volumes/a", None), Some("10.0.0.1:6789,10.0.0.2:6789"));
        check(&mount("//smb/share", None), Some("smb"));
        check(&mount("//smb", None), Some("smb"));
        check(&mount("/dev/sdb1", None), None);
        check(&mount("tank/data", None), None);
        check(&command("mount -t nfs %(options)s 10.0.0.5:/shares/a %(path)s"), Some("10.0.0.5"));
        check(&command("mount -t cifs '//h/s' %(path)s -o user=a:/b"), Some("h"));
        check(&command("ceph-fuse %(path)s --client-mountpoint=/a"), None);
        check(&dir("/srv"), None);
        check(
            &Place::of(&Endpoint::Url { url: Sensitive::new("rest:https://u:p@H.example:8000/x") }),
            Some("h.example:8000"),
        );
        check(&Place::of(&Endpoint::Repository { name: "nightly".into() }), None);
    }

    #[test]
    fn backups_of_a_repository_do_not_mind_each_other_but_a_prune_does() {
        let job = |kind: Kind, id: Option<&str>| {
            let repository = Endpoint::Repository { name: "nightly".into() };
            let tree = Endpoint::Directory { path: "/tree".into() };
            let (source, dest) = match kind {
                Kind::Backup => (tree, repository),
                Kind::Restore => (repository, Endpoint::Directory { path: "/dest".into() }),
                Kind::Check => (repository, Endpoint::None),
                _ => (Endpoint::None, repository),
            };
            let mut spec = JobSpec::new(kind, source, dest);
            spec.backup = Some(crate::spec::BackupPlan { id: id.map(Into::into), ..Default::default() });
            spec
        };
        let check = |one: &JobSpec, other: &JobSpec, expected: bool| {
            let excludes = |one: &JobSpec, other: &JobSpec| {
                let other = Claim::of(other);
                Claim::of(one).iter().any(|claim| other.iter().any(|other| claim.excludes(other)))
            };
            assert_eq!((excludes(one, other), excludes(other, one)), (expected, expected), "{one:?} {other:?}");
        };
        check(&job(Kind::Backup, Some("a")), &job(Kind::Backup, Some("b")), false);
        check(&job(Kind::Backup, None), &job(Kind::Backup, None), false);
        check(&job(Kind::Restore, Some("a")), &job(Kind::Delete, Some("a")), true);
        check(&job(Kind::Check, None), &job(Kind::Backup, Some("a")), false);
        check(&job(Kind::Prune, None), &job(Kind::Check, None), true);
        check(&job(Kind::Prune, None), &job(Kind::Restore, Some("a")), true);
        check(&job(Kind::Restore, Some("a")), &job(Kind::Restore, Some("a")), true);
        let elsewhere = |subdir: &str| {
            let mut spec = job(Kind::Prune, None);
            spec.backup.as_mut().expect("a plan").subdir = Some(subdir.into());
            spec
        };
        check(&elsewhere("x"), &elsewhere("y"), false);
        check(&elsewhere("x"), &job(Kind::Check, None), true);
    }

    #[test]
    fn the_same_and_nested_trees_overlap() {
        let check = |one: &Place, other: &Place, expected: bool| {
            assert_eq!((one.overlaps(other), other.overlaps(one)), (expected, expected), "{one:?} {other:?}");
        };
        check(&dir("/a/b"), &dir("/a//b/"), true);
        check(&dir("/a"), &dir("/a/b/./c"), true);
        check(&dir("/a/b"), &dir("/a/bc"), false);
        check(&dir("/"), &dir("/x"), true);
        check(&mount("h:/a", None), &mount("H:/a/b", None), true);
        check(&mount("h:/a", Some("x")), &mount("h:/a", Some("y")), false);
        check(&mount("h:/a", Some("x")), &mount("h:/a/x/z", None), true);
        check(&mount("h:/a", None), &mount("i:/a", None), false);
        check(&mount("/dev/sdb1", None), &mount("/dev/sdb1", Some("d")), true);
        check(&mount("/dev/sdb1", None), &dir("/dev/sdb1"), false);
        check(&command("mount h:/a %(path)s"), &mount("h:/a/b", None), true);
        check(&command("odd x %(path)s"), &command("odd x %(path)s"), true);
        check(&command("odd x %(path)s"), &command("odd y %(path)s"), false);
    }
}

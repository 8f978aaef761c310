//! Where an endpoint is, as far as its words tell: which storage host serves it, and whether two of them overlap.
//!
//! A guess, for scheduling: two names of one host are two hosts.

use std::path::{Component, Path, PathBuf};

use crate::spec::Endpoint;

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

//! Keeps secrets out of argument vectors where the helper has another way, and out of every text that leaves.

use std::os::fd::{AsRawFd as _, OwnedFd};

use job::{Endpoint, JobSpec, MASK, Sensitive};
use rustix::fs::{MemfdFlags, Mode};
use rustix::io::Errno;

use super::argv::{self, What};

/// Masks the secrets of a job in texts of programs, which may repeat them in any form.
#[derive(Default)]
pub(crate) struct Masker {
    /// The longest first, so that none hides a longer one from being found.
    values: Vec<String>,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("values", &self.values.len()).finish()
    }
}

impl Masker {
    pub(crate) fn new(spec: &JobSpec) -> Self {
        let mut values = Vec::new();
        let mut add = |text: &Sensitive| values.extend(text.secret_values().into_iter().map(String::from));
        for endpoint in [&spec.source, &spec.dest] {
            match endpoint {
                Endpoint::None | Endpoint::Repository { .. } | Endpoint::Directory { .. } => {}
                Endpoint::Url { url } => add(url),
                Endpoint::Mount { options, .. } => options.iter().for_each(&mut add),
                Endpoint::Command { mount, unmount, options } => {
                    [Some(mount), unmount.as_ref(), options.as_ref()].into_iter().flatten().for_each(&mut add);
                }
            }
        }
        spec.backup.iter().filter_map(|plan| plan.password.as_ref()).for_each(&mut add);
        spec.webhook.iter().filter_map(|webhook| webhook.secret.as_ref()).for_each(&mut add);
        // A quoted value may be repeated without its quotes.
        values.extend(values.clone().iter().map(|value| value.trim_matches(['"', '\'']).to_owned()));
        values.retain(|value| !value.is_empty());
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values }
    }

    /// By key first: a value that is masked so cannot be mistaken for a part of something else.
    pub(crate) fn mask(&self, text: &str) -> String {
        self.values.iter().fold(job::mask(text), |text, value| text.replace(value, MASK))
    }
}

/// A command whose secrets travel another way.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// Lives as long as the command runs. In memory alone: there is nothing to remove.
    pub(super) file: Option<OwnedFd>,
}

/// Moves secrets out of the words: to the environment for cifs, to a file for ceph. Other helpers know no other way.
pub(super) fn hide(mut words: Vec<String>) -> Result<Hidden, Errno> {
    let kind = argv::fs_type(&words);
    let keys: &[&str] = match kind.as_deref() {
        Some("cifs" | "smb3") => &["password", "pass"],
        Some("ceph") => &["secret"],
        _ => &[],
    };
    let mut secret = None;
    for place in argv::places(&words).into_iter().filter(|place| place.what == What::Options) {
        let (found, mut kept): (Vec<_>, Vec<_>) =
            argv::split(place.value(&words)).map(String::from).partition(|option| {
                option.contains('=') && keys.iter().any(|key| argv::key_of(option).eq_ignore_ascii_case(key))
            });
        let Some(last) = found.last() else { continue };
        secret = last.split_once('=').map(|(_, value)| value.to_owned());
        if kept.is_empty() {
            // The word must stay a list of options; this one says what is so anyway.
            kept.push("nosuid".into());
        }
        words[place.word].replace_range(place.from.., &kept.join(","));
    }
    let (mut environment, mut file) = (Vec::new(), None);
    match (secret, kind.as_deref()) {
        (Some(secret), Some("ceph")) => {
            let fd = secret_file(&secret)?;
            let option = format!(",secretfile=/proc/{}/fd/{}", own_process()?, fd.as_raw_fd());
            if let Some(place) = argv::places(&words).iter().rfind(|place| place.what == What::Options) {
                words[place.word].push_str(&option);
            }
            file = Some(fd);
        }
        (Some(secret), _) => environment.push(("PASSWD", secret)),
        (None, _) => {}
    }
    Ok(Hidden { words, environment, file })
}

fn secret_file(secret: &str) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::memfd_create("secret", MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    let mut rest = secret.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    Ok(fd)
}

/// The number of this process where `/proc` was mounted, which is outside our process namespace.
fn own_process() -> Result<String, Errno> {
    let link = rustix::fs::readlinkat(rustix::fs::CWD, "/proc/self", Vec::new())?;
    link.into_string().map_err(|_| Errno::ILSEQ)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own their temporary directory")]
mod tests {
    use job::Kind;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn a_password_of_cifs_goes_to_the_environment() {
        let check = |text: &str, expected: &str, password: &str| {
            let hidden = hide(words(text)).unwrap();
            assert_eq!(hidden.words, words(expected), "{text}");
            assert_eq!(hidden.environment, [("PASSWD", password.to_owned())]);
        };
        check("mount -vt cifs -o user=a,password=p,vers=3 //h/s /m", "mount -vt cifs -o user=a,vers=3 //h/s /m", "p");
        check("mount -t cifs -ouser=a,PASS=p=q //h/s /m", "mount -t cifs -ouser=a //h/s /m", "p=q");
        check("mount.cifs --options=pass=p //h/s /m", "mount.cifs --options=nosuid //h/s /m", "p");
        check("mount -t cifs -o pass=p -o ro //h/s /m", "mount -t cifs -o nosuid -o ro //h/s /m", "p");
    }

    #[test]
    fn a_secret_of_ceph_goes_to_a_file() {
        let hidden = hide(words("mount -t ceph -o name=a,secret=AQ== h:/ /m")).unwrap();
        let options = hidden.words[4].clone();
        let path = options.strip_prefix("name=a,secretfile=").expect("a file");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "AQ==");
        assert!(hidden.environment.is_empty());
        drop(hidden);
        assert!(std::fs::read(path).is_err(), "the file goes with the command");
    }

    #[test]
    fn others_keep_their_words() {
        let text = "glusterfs -o password=p h:/ /m";
        assert_eq!(hide(words(text)).unwrap().words, words(text));
    }

    #[test]
    fn texts_are_masked_by_key_and_by_value() {
        let mount = |options: &[&str]| Endpoint::Mount {
            fs_type: "cifs".into(),
            source: "//h/s".into(),
            options: options.iter().map(|option| Sensitive::new(*option)).collect(),
            subdir: None,
        };
        let command = Endpoint::Command {
            mount: Sensitive::new("mount -o secret='ge heim' h:/ %(path)s"),
            unmount: None,
            options: Some(Sensitive::new("-o password=geheimnis")),
        };
        let masker = Masker::new(&JobSpec::new(Kind::Copy, mount(&["user=a", "pass=geheim"]), command));
        assert_eq!(masker.mask("bad geheimnis, geheim, ge heim and pass=other"), "bad ***, ***, *** and pass=***");
        assert_eq!(masker.mask("user=a"), "user=a");
        assert!(!format!("{masker:?}").contains("geheim"));
    }
}

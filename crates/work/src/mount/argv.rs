//! Which commands may be run, and where their words hold a type or options.

use std::path::{Path, PathBuf};

use super::{MountError, MountSettings};

/// Where programs that are named without a path are looked for. Not the caller's `PATH`: these run as root.
pub(super) const PROGRAM_DIRS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Options that make a local directory, or an earlier mount, another tree than the one that was asked for.
const REFUSED_OPTIONS: [&str; 14] = [
    "bind",
    "rbind",
    "move",
    "remount",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "helper",
    "uhelper",
];

/// Options of ssh and sshfs that run a program of the caller's choice.
const RUNS_PROGRAMS: [&str; 8] = [
    "ssh_command",
    "proxycommand",
    "localcommand",
    "permitlocalcommand",
    "knownhostscommand",
    "pkcs11provider",
    "securitykeyprovider",
    "include",
];

/// Short options of mount(8) with the same meaning as refused ones, and those that leave the job's own mount point.
const REFUSED_OF_MOUNT: [char; 6] = ['B', 'R', 'M', 'a', 'N', 'T'];
const REFUSED_LONG: [&str; 10] = [
    "--bind",
    "--rbind",
    "--move",
    "--all",
    "--fstab",
    "--namespace",
    "--target",
    "--target-prefix",
    "--make-",
    "--map-",
];

/// Whether the list of helpers has a program of this name or path.
pub(super) fn is_allowed(settings: &MountSettings, program: &str) -> bool {
    settings.helpers.iter().any(|helper| match helper.strip_suffix('*') {
        Some(beginning) => {
            !program.contains('/') && program.strip_prefix(beginning).is_some_and(|rest| !rest.is_empty())
        }
        None => helper == program,
    })
}

/// The file of a program that may be run.
pub(super) fn program(settings: &MountSettings, program: &str) -> Result<PathBuf, MountError> {
    if !is_allowed(settings, program) {
        return Err(MountError::bad_spec(format!("`{program}` is not one of the mount helpers that may be run")));
    }
    if program.contains('/') {
        return Ok(program.into());
    }
    find(program).ok_or_else(|| {
        MountError::failed(format!("the mount helper `{program}` is not installed ({})", PROGRAM_DIRS.join(":")))
    })
}

#[expect(clippy::disallowed_methods, reason = "directories of the system, named here")]
pub(super) fn find(program: &str) -> Option<PathBuf> {
    PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// Refuses commands that are not on the list, or would do something else than mount what they name.
pub(super) fn check(settings: &MountSettings, words: &[String]) -> Result<(), MountError> {
    let Some(name) = words.first() else {
        return Err(MountError::bad_spec("the mount command is empty"));
    };
    program(settings, name)?;
    let base = base_name(name);
    for word in words.iter().skip(1).take_while(|word| *word != "--") {
        let long = word.starts_with("--") && REFUSED_LONG.iter().any(|refused| word.starts_with(refused));
        if base == "mount"
            && (long || cluster(word).is_some_and(|mut letters| letters.any(|c| REFUSED_OF_MOUNT.contains(&c))))
            || base == "sshfs" && word.starts_with("-F")
        {
            return Err(MountError::bad_spec(format!("the option `{word}` of `{base}` is not allowed")));
        }
    }
    for place in places(words).iter().filter(|place| place.what == What::Options) {
        split(place.value(words)).try_for_each(check_option)?;
    }
    Ok(())
}

pub(super) fn check_option(option: &str) -> Result<(), MountError> {
    let key = key_of(option);
    // ssh takes a blank for the equals sign too.
    let key = key.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if REFUSED_OPTIONS.contains(&&*key) || RUNS_PROGRAMS.contains(&&*key) {
        return Err(MountError::bad_spec(format!("the mount option `{key}` is not allowed")));
    }
    Ok(())
}

pub(super) fn key_of(option: &str) -> &str {
    option.split('=').next().unwrap_or_default().trim()
}

pub(super) fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// What a word of a command holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Type,
    Options,
}

/// A value in the words of a command: a word, or the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) what: What,
    pub(super) word: usize,
    pub(super) from: usize,
}

impl Place {
    pub(super) fn value(self, words: &[String]) -> &str {
        &words[self.word][self.from..]
    }
}

/// Where the values of `-t` and `-o` are, in each way of writing them: `-vt nfs`, `-oro`, `--options=ro`.
pub(super) fn places(words: &[String]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut word = 1;
    while word < words.len() && words[word] != "--" {
        let text = &words[word];
        let found = match text.strip_prefix("--") {
            Some(long) => ["types", "options"].iter().zip([What::Type, What::Options]).find_map(|(name, what)| {
                let rest = long.strip_prefix(name)?;
                (rest.is_empty() || rest.starts_with('=')).then(|| (what, text.len() - rest.len() + 1))
            }),
            None => cluster(text).and_then(|mut letters| {
                let at = letters.position(|c| matches!(c, 't' | 'o'))?;
                // Only ASCII can be before it: `cluster` sees to that.
                Some((if text.as_bytes()[1 + at] == b't' { What::Type } else { What::Options }, at + 2))
            }),
        };
        if let Some((what, from)) = found {
            if from < text.len() {
                places.push(Place { what, word, from });
            } else if text.ends_with('=') {
                // A value, and an empty one.
            } else if word + 1 < words.len() {
                word += 1;
                places.push(Place { what, word, from: 0 });
            }
        }
        word += 1;
    }
    places
}

/// The letters of a word with short options, up to the first that takes a value.
fn cluster(word: &str) -> Option<impl Iterator<Item = char>> {
    let letters = word.strip_prefix('-').filter(|letters| !letters.is_empty() && !letters.starts_with('-'))?;
    let mut has_ended = false;
    Some(letters.chars().take_while(move |letter| {
        let is_letter = letter.is_ascii_alphanumeric() && !has_ended;
        has_ended |= matches!(letter, 't' | 'o' | 'L' | 'U' | 'O');
        is_letter
    }))
}

/// The options of a list; a comma within double quotes separates nothing.
pub(super) fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    })
}

/// The kind of file system that the command mounts, as far as its words say.
pub(super) fn fs_type(words: &[String]) -> Option<String> {
    let base = base_name(words.first()?);
    match base.strip_prefix("mount.") {
        Some(fs_type) => Some(fs_type.into()),
        None if base == "mount" => {
            let places = places(words);
            places.iter().rfind(|place| place.what == What::Type).map(|place| place.value(words).into())
        }
        None => Some(base.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn types_and_options_are_found_in_each_way_of_writing_them() {
        let check = |text: &str, expected: &[(What, &str)]| {
            let words = words(text);
            let found: Vec<_> = places(&words).iter().map(|place| (place.what, place.value(&words))).collect();
            assert_eq!(found, expected, "{text}");
        };
        use What::{Options, Type};
        check("mount -vt nfs -o ro,hard h:/ /m", &[(Type, "nfs"), (Options, "ro,hard")]);
        check("mount -tnfs -oro h:/ /m", &[(Type, "nfs"), (Options, "ro")]);
        check("mount --types=nfs --options ro h:/ /m", &[(Type, "nfs"), (Options, "ro")]);
        check("mount --options= h:/ /m", &[]);
        check("mount -L olabel /m -o", &[]);
        check("mount -- -o ro", &[]);
    }

    #[test]
    fn a_program_must_be_on_the_list() {
        let settings =
            MountSettings { helpers: vec!["mount".into(), "mount.*".into(), "/opt/x".into()], ..Default::default() };
        for (program, expected) in [
            ("mount", true),
            ("mount.nfs", true),
            ("/opt/x", true),
            ("mount.", false),
            ("mount.a/../../bin/sh", false),
            ("/usr/bin/mount", false),
            ("x", false),
            ("sh", false),
            ("./mount", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(&settings, program), expected, "{program}");
        }
    }

    #[test]
    fn commands_that_do_something_else_are_refused() {
        let settings = MountSettings { helpers: ["mount", "sh", "sshfs"].map(Into::into).into(), ..Default::default() };
        for text in [
            "mount --bind /etc /m",
            "mount -vB /etc /m",
            "mount --rbind=x /etc /m",
            "mount -o ro,bind /etc /m",
            "mount -oremount,rw /m",
            "mount --make-shared /m",
            "mount -a",
            "mount -N 1 /etc /m",
            "mount -t fuse.sshfs -o ro,ProxyCommand=id h: /m",
        ] {
            let MountError::Failed(failure) = check(&settings, &words(text)).expect_err(text) else { panic!() };
            assert_eq!(failure.code, job::FailureCode::BadSpec, "{text}: {failure}");
            assert!(failure.message.contains("not allowed"), "{text}: {failure}");
        }
        assert!(check(&settings, &[]).is_err());
        assert!(check(&settings, &words("mount -vt nfs -o vers=4.1,ro h:/B /m")).is_ok());
    }

    #[test]
    fn the_kind_of_file_system_is_known_from_the_words() {
        for (text, expected) in [
            ("mount -vt cifs //h/s /m", Some("cifs")),
            ("mount.ceph h:/ /m", Some("ceph")),
            ("/sbin/mount.cifs //h/s /m", Some("cifs")),
            ("sshfs h: /m", Some("sshfs")),
            ("mount h:/ /m", None),
        ] {
            assert_eq!(fs_type(&words(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_comma_in_quotes_separates_nothing() {
        let options: Vec<_> = split(r#"ro,context="a:b,c",x"#).collect();
        assert_eq!(options, ["ro", r#"context="a:b,c""#, "x"]);
    }
}

//! The `mount` command of an endpoint that is described by type, source and options.

use std::path::Path;

use job::Sensitive;

use super::{MountError, MountSettings, Use, argv};

/// The words of the command, once nothing in them can be taken for something else.
pub(super) fn mount_words(
    settings: &MountSettings,
    usage: Use,
    fs_type: &str,
    source: &str,
    options: &[Sensitive],
    at: &Path,
) -> Result<Vec<String>, MountError> {
    check_type(settings, fs_type)?;
    if source.is_empty() || source.starts_with('-') || source.chars().any(char::is_control) {
        return Err(MountError::bad_spec(
            "the source of the mount is empty, begins with `-` or has control characters",
        ));
    }
    let at = at.to_str().ok_or_else(|| MountError::bad_spec("the path of the workspace is not UTF-8"))?;
    for option in options {
        check_option(option)?;
    }
    let mut words: Vec<String> = ["mount", "-t", fs_type].map(Into::into).into();
    // The file system itself is asked to be read-only too, so that it does not even recover a journal where it can help it.
    let read_only = (usage == Use::Read).then_some("ro");
    let list: Vec<_> = read_only.into_iter().chain(options.iter().map(Sensitive::expose)).collect();
    if !list.is_empty() {
        words.extend(["-o".into(), list.join(",")]);
    }
    words.extend(["--".into(), source.into(), at.into()]);
    argv::check(settings, &words)?;
    Ok(words)
}

fn check_type(settings: &MountSettings, fs_type: &str) -> Result<(), MountError> {
    let is_plain = fs_type.starts_with(|c: char| c.is_ascii_alphanumeric())
        && fs_type.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    if !is_plain {
        return Err(MountError::bad_spec("the file system type is not a plain word"));
    }
    // The helper of FUSE runs the program that the type names, or that stands before a `#` in the source.
    let refused = match fs_type.split_once('.') {
        Some(("fuse" | "fuse3", program)) => (!argv::is_allowed(settings, program)).then_some(program),
        _ if matches!(fs_type, "fuse" | "fuse3") => Some(fs_type),
        _ => {
            let helper = format!("mount.{fs_type}");
            (argv::find(&helper).is_some() && !argv::is_allowed(settings, &helper)).then_some(fs_type)
        }
    };
    match refused {
        Some(program) => Err(MountError::bad_spec(format!(
            "the file system type `{fs_type}` would run `{program}`, which is not one of the mount helpers that may be run"
        ))),
        None => Ok(()),
    }
}

fn check_option(option: &Sensitive) -> Result<(), MountError> {
    let text = option.expose();
    let shown = option.shown();
    if option.is_lost() {
        return Err(MountError::bad_spec(format!("the secret of the mount option `{shown}` is not known any more")));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(MountError::bad_spec(format!(
            "the mount option `{}` is empty or has control characters",
            shown.escape_debug()
        )));
    }
    if argv::split(text).count() > 1 {
        return Err(MountError::bad_spec(format!(
            "the mount option `{shown}` has a comma in it, which begins another one"
        )));
    }
    argv::check_option(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fs_type: &str, source: &str, options: &[&str]) -> Result<Vec<String>, String> {
        let settings = MountSettings { helpers: ["mount", "bindfs"].map(Into::into).into(), ..Default::default() };
        let options: Vec<_> = options.iter().map(|option| Sensitive::new(*option)).collect();
        mount_words(&settings, Use::Read, fs_type, source, &options, Path::new("/w/source")).map_err(
            |error| match error {
                MountError::Failed(failure) => failure.message,
                MountError::Stopped => unreachable!("nobody asked for a stop"),
            },
        )
    }

    #[test]
    fn a_described_mount_becomes_words() {
        let words = of("tmpfs", "none", &["size=1m", "context=\"a,b\""]).unwrap();
        assert_eq!(words, ["mount", "-t", "tmpfs", "-o", "ro,size=1m,context=\"a,b\"", "--", "none", "/w/source"]);
        assert_eq!(of("fuse.bindfs", "/srv", &[]).unwrap()[2], "fuse.bindfs");
    }

    #[test]
    fn nothing_can_be_taken_for_something_else() {
        let check = |fs_type: &str, source: &str, options: &[&str], part: &str| {
            let message = of(fs_type, source, options).expect_err(part);
            assert!(message.contains(part), "{fs_type} {source} {options:?}: {message}");
        };
        check("-nfs", "h:/", &[], "not a plain word");
        check("a/b", "h:/", &[], "not a plain word");
        check("", "h:/", &[], "not a plain word");
        check("nfs\n", "h:/", &[], "not a plain word");
        check("tmpfs", "-oexec", &[], "begins with `-`");
        check("tmpfs", "", &[], "is empty");
        check("tmpfs", "a\nb", &[], "control characters");
        check("fuse.sh", "x", &[], "would run `sh`");
        check("fuse", "sh#x", &[], "would run");
        check("tmpfs", "x", &["ro\nbind"], "control characters");
        check("tmpfs", "x", &["ro,bind"], "has a comma");
        check("none", "/etc", &["bind"], "`bind` is not allowed");
        check("tmpfs", "x", &["password=***"], "not known any more");
    }
}

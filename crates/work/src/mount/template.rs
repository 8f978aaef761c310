//! Mount commands as Manila gives them: text with placeholders, split to words before anything is filled in.

use std::path::Path;

use super::{MountError, MountSettings, argv};

/// The words of a mount command.
pub(super) fn mount_words(
    settings: &MountSettings,
    template: &str,
    options: Option<&str>,
    at: &Path,
) -> Result<Vec<String>, MountError> {
    words(settings, "mount", template, options.unwrap_or_default(), at)
}

/// The words of the command that takes the mount away again.
pub(super) fn unmount_words(
    settings: &MountSettings,
    template: Option<&str>,
    at: &Path,
) -> Result<Vec<String>, MountError> {
    words(settings, "unmount", template.unwrap_or("umount %(path)s"), "", at)
}

fn words(
    settings: &MountSettings,
    name: &str,
    template: &str,
    options: &str,
    at: &Path,
) -> Result<Vec<String>, MountError> {
    let at = at.to_str().ok_or_else(|| MountError::bad_spec("the path of the workspace is not UTF-8"))?;
    let options_words = split(&format!("options of the {name} command"), options)?;
    let mut words = Vec::new();
    let mut names_path = false;
    for word in split(&format!("{name} command"), template)? {
        if word == "%(options)s" {
            words.extend(options_words.iter().cloned());
        } else {
            names_path |= word.contains("%(path)s");
            words.push(
                fill(&word, options, at).map_err(|why| MountError::bad_spec(format!("the {name} command {why}")))?,
            );
        }
    }
    if !names_path {
        return Err(MountError::bad_spec(format!("the {name} command does not name %(path)s")));
    }
    argv::check(settings, &words)?;
    Ok(words)
}

/// As a shell would split it, without any other meaning of a shell's characters.
fn split(what: &str, text: &str) -> Result<Vec<String>, MountError> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(MountError::bad_spec(format!("the {what} has a control character in it")));
    }
    // For shlex a word that begins with `#` is a comment to the end of the line; nobody means that here.
    if text.split_whitespace().any(|word| word.starts_with('#')) {
        return Err(MountError::bad_spec(format!("the {what} has a word that begins with `#`")));
    }
    shlex::split(text).ok_or_else(|| MountError::bad_spec(format!("the {what} has a quote that does not end")))
}

/// Fills placeholders in one word, which stays one whatever is filled in.
fn fill(word: &str, options: &str, at: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = word;
    while let Some(percent) = rest.find('%') {
        filled.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(tail) = rest.strip_prefix('%') {
            filled.push('%');
            rest = tail;
            continue;
        }
        let Some((name, tail)) = rest.strip_prefix('(').and_then(|tail| tail.split_once(")s")) else {
            return Err("has a `%` that begins no placeholder; write `%%`".into());
        };
        filled.push_str(match name {
            "path" => at,
            "options" => options,
            // Manila fills these in by itself, before it sends the command.
            _ => return Err(format!("has the placeholder `%({name})s`; known are path and options")),
        });
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str, options: &str) -> Result<Vec<String>, String> {
        let settings =
            MountSettings { helpers: ["mount", "umount", "mount.*"].map(Into::into).into(), ..Default::default() };
        mount_words(&settings, template, Some(options), Path::new("/w/source")).map_err(|error| match error {
            MountError::Failed(failure) => failure.message,
            MountError::Stopped => unreachable!("nobody asked for a stop"),
        })
    }

    #[test]
    fn a_template_becomes_words() {
        let check = |template: &str, options: &str, expected: &[&str]| {
            assert_eq!(
                of(template, options).as_deref(),
                Ok(&expected.iter().map(|w| (*w).into()).collect::<Vec<_>>()[..])
            );
        };
        let manila = "mount -vt nfs %(options)s 10.0.0.1:/export/a %(path)s";
        check(manila, "-o vers=4.1", &["mount", "-vt", "nfs", "-o", "vers=4.1", "10.0.0.1:/export/a", "/w/source"]);
        check(manila, "", &["mount", "-vt", "nfs", "10.0.0.1:/export/a", "/w/source"]);
        check("mount 'h:/a b' %(path)s", "", &["mount", "h:/a b", "/w/source"]);
        check("mount -o x=%(options)s h:/ %(path)s", "a b", &["mount", "-o", "x=a b", "h:/", "/w/source"]);
        check("mount h:/100%% %(path)s", "", &["mount", "h:/100%", "/w/source"]);
        check("mount %(options)s h:/ %(path)s", "-o %(path)s", &["mount", "-o", "%(path)s", "h:/", "/w/source"]);
        check("mount h:/$(id);`id`|>x&& %(path)s", "", &["mount", "h:/$(id);`id`|>x&&", "/w/source"]);
        check("mount h:/ --at=%(path)s:%(path)s", "", &["mount", "h:/", "--at=/w/source:/w/source"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |template: &str, options: &str, part: &str| {
            let message = of(template, options).expect_err(template);
            assert!(message.contains(part), "{template}: {message}");
        };
        check("mount h:/", "", "does not name %(path)s");
        check("mount h:/ %(path)s %(proto)s", "", "%(proto)s");
        check("mount h:/50% %(path)s", "", "%%");
        check("mount 'h:/ %(path)s", "", "quote");
        check("mount h:/ %(path)s %(options)s", "-o 'x", "quote");
        check("mount h:/ %(path)s\nid", "", "control character");
        check("mount %(options)s h:/ %(path)s", "-o ro\n-o bind", "control character");
        check("mount %(options)s h:/ %(path)s", "-o ro,bind", "`bind` is not allowed");
        check("mount h:/ #x %(path)s", "", "`#`");
        check("sudo mount h:/ %(path)s", "", "`sudo` is not one of");
        check("sh -c id %(path)s", "", "`sh` is not one of");
        check("", "", "does not name");
    }
}

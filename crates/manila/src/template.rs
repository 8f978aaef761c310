//! Mount commands as Manila's configuration and its drivers have them, and as the job's templates have them.
//!
//! Upstream fills placeholders into the text and splits it at white space. Here a template is split first, so that a
//! value with blanks, quotes or percent signs in it stays the word that it is.

use job::{Endpoint, Sensitive};

const OPTIONS: &str = "%(options)s";

/// A command of the configuration with what its placeholders stand for, but for the mount point.
pub(crate) struct Command<'a> {
    pub(crate) mount: &'a str,
    pub(crate) unmount: &'a str,
    pub(crate) proto: &'a str,
    pub(crate) export: &'a str,
    /// Any number of words, or none.
    pub(crate) options: &'a str,
}

impl Command<'_> {
    /// The error says what is wrong, after the name of what it is about.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        if let Some(odd) = [self.proto, self.export].into_iter().find(|text| text.chars().any(char::is_control)) {
            return Err(format!("has control characters in `{}`", odd.escape_debug()));
        }
        let values = [("proto", self.proto), ("export", self.export)];
        let (mount, unmount) = (filled(self.mount, &values)?, filled(self.unmount, &values)?);
        Ok(endpoint(mount, &unmount, self.options))
    }
}

/// The job's side of a mount command that is in the job's words already, and of upstream's options.
pub(crate) fn endpoint(mount: String, unmount: &str, options: &str) -> Endpoint {
    let options = quoted(options);
    let has_options = !options.is_empty();
    Endpoint::Command {
        mount: Sensitive::new(if has_options { mount } else { without_options(&mount) }),
        unmount: Some(Sensitive::new(without_options(unmount))),
        options: has_options.then(|| Sensitive::new(options)),
    }
}

/// What is wrong with a template of the configuration.
pub(crate) fn check(template: &str) -> Result<(), String> {
    if !template.contains("%(path)s") {
        return Err("has no %(path)s for the mount point".into());
    }
    filled(template, &[("proto", ""), ("export", "")]).map(drop)
}

/// The template with these values in it; the mount point and the options are filled in by whoever mounts.
fn filled(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let words = template.split_whitespace().map(|word| Ok(quote(&fill(word, values)?)));
    Ok(words.collect::<Result<Vec<_>, String>>()?.join(" "))
}

fn fill(word: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('%') {
            filled.push_str("%%");
            rest = tail;
            continue;
        }
        let Some((name, tail)) = rest.strip_prefix('(').and_then(|tail| tail.split_once(")s")) else {
            return Err("has a `%` that begins no placeholder; write `%%`".into());
        };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => filled.push_str(&value.replace('%', "%%")),
            None if name == "path" || name == "options" => {
                filled.push_str("%(");
                filled.push_str(name);
                filled.push_str(")s");
            }
            None => return Err(format!("has `%({name})s`; known are proto, export, options, path")),
        }
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The template with nothing where the options would be.
fn without_options(template: &str) -> String {
    let mut kept = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        // A doubled percent sign stands for itself, whatever follows it.
        let taken = if from.starts_with("%%") { 2 } else { 1 };
        let is_options = from.starts_with(OPTIONS);
        // Alone between blanks it is no word at all.
        let is_word = kept.ends_with(' ') && from[if is_options { OPTIONS.len() } else { 0 }..].starts_with(' ');
        if is_options && is_word {
            kept.pop();
        }
        kept.push_str(if is_options { "" } else { &from[..taken] });
        rest = &from[if is_options { OPTIONS.len() } else { taken }..];
    }
    kept + rest
}

/// Upstream splits commands at white space and knows no quotes; the job's templates do. Quoted where that makes a
/// difference, both find the same words.
pub(crate) fn quoted(template: &str) -> String {
    template.split_whitespace().map(quote).collect::<Vec<_>>().join(" ")
}

fn quote(word: impl AsRef<str>) -> String {
    let word = word.as_ref();
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\');
    if word.is_empty() || word.contains(is_odd) || word.starts_with('#') {
        format!("'{}'", word.replace('\'', r#"'"'"'"#))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_out_of_a_template() {
        for (template, expected) in [
            ("mount %(options)s h:/a %(path)s", "mount h:/a %(path)s"),
            ("x=%(options)s,%(options)s", "x=,"),
            ("100%% %%(options)s %(path)s %", "100%% %%(options)s %(path)s %"),
            ("%%%(options)s", "%%"),
            ("é%é", "é%é"),
        ] {
            assert_eq!(without_options(template), expected, "{template}");
        }
    }

    #[test]
    fn a_shell_finds_the_words_that_white_space_parts() {
        for text in ["a b", " a\tb\n", "it's", r"b\ c", r#"'"x"'"#, "#a b#", "%(path)s $x `id`", "\u{a0}é\u{2003}b"] {
            let expected: Vec<String> = text.split_whitespace().map(Into::into).collect();
            assert_eq!(shlex::split(&quoted(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn any_export_stays_one_word() {
        const TEMPLATE: &str = "mount -vt %(proto)s %(options)s %(export)s %(path)s";
        for (export, options, expected) in [
            ("h:/a", "", "mount -vt nfs h:/a %(path)s"),
            ("h:/a", "-o vers=4", "mount -vt nfs %(options)s h:/a %(path)s"),
            ("h:/a b", "", "mount -vt nfs 'h:/a b' %(path)s"),
            ("h:/100%", "", "mount -vt nfs h:/100%% %(path)s"),
            ("h:/%(path)s", "", "mount -vt nfs h:/%%(path)s %(path)s"),
            ("h:/it's", "", r#"mount -vt nfs 'h:/it'"'"'s' %(path)s"#),
        ] {
            let command =
                Command { mount: TEMPLATE, unmount: "umount %(options)s %(path)s", proto: "nfs", export, options };
            let Ok(Endpoint::Command { mount, unmount, .. }) = command.endpoint() else { panic!("{export}") };
            assert_eq!(mount.expose(), expected);
            assert_eq!(unmount.as_ref().map(Sensitive::expose), Some("umount %(path)s"));
        }
        let hostile =
            Command { mount: TEMPLATE, unmount: "umount %(path)s", proto: "nfs", export: "h:/a\nb", options: "" };
        assert!(hostile.endpoint().is_err_and(|why| why.contains("control characters")));
    }
}

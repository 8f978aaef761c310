//! The syntax of one file: groups, keys, values of one or several lines.

use std::collections::BTreeMap;

/// What a file says, by group and name. Of a name that stands several times the last one holds.
pub(crate) type Groups = BTreeMap<String, BTreeMap<String, Setting>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) text: String,
    /// Where the name stands, from 1.
    pub(crate) line: u32,
}

/// A line that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) what: &'static str,
}

const NO_GROUP: &str = "an option before the first group; put `[DEFAULT]` above it";
const NO_SIGN: &str = "neither a group, a comment nor `name = value`";
const NO_NAME: &str = "a value without a name";
const NOTHING_TO_CONTINUE: &str = "begins with blank space, which continues a value, but there is none above it";
const NO_BRACKET: &str = "a group without its `]`";
const NO_GROUP_NAME: &str = "a group without a name";
const NOT_TEXT: &str = "is not UTF-8";

/// Group names are compared without regard to case, but for `DEFAULT`: `[default]` is another group.
pub(crate) fn normalized(group: &str) -> String {
    if group == super::DEFAULT { group.into() } else { group.to_lowercase() }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Groups, SyntaxError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count() as u32;
        SyntaxError { line, what: NOT_TEXT }
    })?;
    let mut groups = Groups::new();
    let mut group = None;
    // The value that may go on in the next line.
    let mut open: Option<(String, Setting)> = None;
    let text = text.replace("\r\n", "\n");
    for (line, number) in text.split(['\n', '\r']).map(str::trim_end).zip(1..) {
        let error = |what| SyntaxError { line: number, what };
        if line.starts_with([' ', '\t']) {
            let (_, setting) = open.as_mut().ok_or(error(NOTHING_TO_CONTINUE))?;
            setting.text.push('\n');
            setting.text.push_str(line.trim_start());
            continue;
        }
        close(&mut groups, group.as_deref(), open.take())?;
        match line.chars().next() {
            None | Some('#' | ';') => {}
            Some('[') => {
                let name = line[1..].strip_suffix(']').ok_or(error(NO_BRACKET))?;
                if name.is_empty() {
                    return Err(error(NO_GROUP_NAME));
                }
                let name = normalized(name);
                groups.entry(name.clone()).or_default();
                group = Some(name);
            }
            Some(_) => {
                let (name, value) = line.split_once(['=', ':']).ok_or(error(NO_SIGN))?;
                if name.trim().is_empty() {
                    return Err(error(NO_NAME));
                }
                open = Some((name.trim().into(), Setting { text: unquoted(value.trim()).into(), line: number }));
            }
        }
    }
    close(&mut groups, group.as_deref(), open)?;
    Ok(groups)
}

fn close(groups: &mut Groups, group: Option<&str>, open: Option<(String, Setting)>) -> Result<(), SyntaxError> {
    let Some((name, setting)) = open else { return Ok(()) };
    let group = group.ok_or(SyntaxError { line: setting.line, what: NO_GROUP })?;
    groups.entry(group.into()).or_default().insert(name, setting);
    Ok(())
}

/// The first line of a value without the quotes around the whole of it. Of a single quote nothing is left, as with
/// oslo.config.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if value.starts_with(quote) && value.ends_with(quote) {
            return value.get(1..value.len() - 1).unwrap_or_default();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, group: &str, name: &str) -> Option<String> {
        parse(text.as_bytes()).unwrap().get(group)?.get(name).map(|setting| setting.text.clone())
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(value(&format!("[DEFAULT]\n{line}\n"), "DEFAULT", "a").as_deref(), Some(expected), "{line:?}");
    }

    #[track_caller]
    fn check_error(text: &str, line: u32, what: &'static str) {
        assert_eq!(parse(text.as_bytes()), Err(SyntaxError { line, what }), "{text:?}");
    }

    #[test]
    fn the_first_sign_splits() {
        check("a = b", "b");
        check("a=b=c", "b=c");
        check("a : b", "b");
        check("a = b:c", "b:c");
        check("a: b=c", "b=c");
        check("a =", "");
    }

    #[test]
    fn there_are_no_inline_comments() {
        check("a = value # x", "value # x");
        check("a = value ; x", "value ; x");
        check("# b = 1\n; c = 2\na = 1", "1");
    }

    #[test]
    fn a_value_goes_on_in_lines_that_begin_with_blank_space() {
        check("a = first line\n   second line  ", "first line\nsecond line");
        check("a = first\n\tsecond\n  # no comment", "first\nsecond\n# no comment");
        check("a = first\n\nb = 1", "first");
        check("a =\n  x,\n  y", "\nx,\ny");
        check("a = first\r\n second\r\n", "first\nsecond");
    }

    #[test]
    fn quotes_around_the_whole_value_are_taken_off_once() {
        check("a = \"hello world\"", "hello world");
        check("a = 'hello world'", "hello world");
        check("a = \"'x'\"", "'x'");
        check("a = \"x", "\"x");
        check("a = \"x\" y", "\"x\" y");
        check("a = \"", "");
        check("a = \"one\n two\"", "\"one\ntwo\"");
    }

    #[test]
    fn groups_are_compared_in_lower_case_but_for_default() {
        assert_eq!(value("[DATABASE]\na = 1", "database", "a").as_deref(), Some("1"));
        assert_eq!(value("[default]\na = 1", "DEFAULT", "a"), None);
        assert_eq!(value("[x]\na = 1\n[y]\nb = 1\n[x]\nc = 1", "x", "c").as_deref(), Some("1"));
        assert_eq!(value("[x]\nA = 1", "x", "a"), None, "names of options keep their case");
    }

    #[test]
    fn the_last_of_a_name_holds() {
        check("a = 1\na = 2", "2");
        assert_eq!(value("[x]\na = 1\n[y]\n[x]\na = 2", "x", "a").as_deref(), Some("2"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        check_error("a = 1", 1, NO_GROUP);
        check_error("\n[x]\nnothing", 3, NO_SIGN);
        check_error("[x]\n= 1", 2, NO_NAME);
        check_error("[x]\n  a = 1", 2, NOTHING_TO_CONTINUE);
        check_error("[x]\na = 1\n\n  more", 4, NOTHING_TO_CONTINUE);
        check_error("[x]\na = 1\n# comment\n  more", 4, NOTHING_TO_CONTINUE);
        check_error("[x", 1, NO_BRACKET);
        check_error("[x] # y", 1, NO_BRACKET);
        check_error("[]", 1, NO_GROUP_NAME);
        assert_eq!(parse(b"[x]\na = \xff"), Err(SyntaxError { line: 2, what: NOT_TEXT }));
    }
}

//! Text from elsewhere within a line: nothing in it may end the line, or change what a terminal shows of others.

use std::fmt::Write as _;

/// Whether a character would end a line, steer a terminal, or turn the order of what stands around it.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes such characters the way Python's `repr` does. A backslash stays one, as oslo.log leaves it.
pub(super) fn push(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(is_dangerous) {
        out.push_str(&rest[..at]);
        let c = rest[at..].chars().next().expect("found there");
        // Writing into memory cannot fail.
        let _ = match c {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c)),
            c => write!(out, "\\u{:04x}", u32::from(c)),
        };
        rest = &rest[at + c.len_utf8()..];
    }
    out.push_str(rest);
}

/// The text with its dangerous characters written out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// Whether a text is in quotes already, as `{:?}` prints strings.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return false };
    let mut is_escaped = false;
    let ends_early = inner.chars().any(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    !ends_early && !is_escaped
}

/// Writes a value so that its end can be seen: in quotes where it is empty or holds blank space.
pub(super) fn push_value(out: &mut String, text: &str) {
    let is_plain = !text.is_empty() && !text.starts_with('"') && !text.contains(char::is_whitespace);
    if is_plain || is_quoted(text) {
        return push(out, text);
    }
    out.push('"');
    push(out, &text.replace('\\', "\\\\").replace('"', "\\\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_line_is_written_out() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected, "{text:?}");
        check("plain é", "plain é");
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("\u{1b}[31m\u{7f}\u{85}", "\\x1b[31m\\x7f\\x85");
        check("\u{2028}\u{202e}", "\\u2028\\u202e");
        check("C:\\n", "C:\\n");
    }

    #[test]
    fn the_end_of_a_value_can_be_seen() {
        let check = |text: &str, expected: &str| {
            let mut out = String::new();
            push_value(&mut out, text);
            assert_eq!(out, expected, "{text:?}");
        };
        check("plain", "plain");
        check("", "\"\"");
        check("a b=c", "\"a b=c\"");
        check("a \"b\"", "\"a \\\"b\\\"\"");
        check("\"a", "\"\\\"a\"");
        check("\"a b\"", "\"a b\"");
        check("\"a\" b=\"c\"", "\"\\\"a\\\" b=\\\"c\\\"\"");
        check("\"a\\\"", "\"\\\"a\\\\\\\"\"");
        check("Some(\"x\")", "Some(\"x\")");
        check("a\nb", "\"a\\nb\"");
    }
}

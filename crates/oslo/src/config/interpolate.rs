//! `$name`, `${name}` and `$group.name` in values; `$$` for the sign itself.

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    /// The value of an option: its name, and the group before a dot.
    Option(&'a str),
}

/// Cuts a value into its pieces. A sign before anything but a name stands for itself.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        pieces.push(Piece::Text(before));
        let (piece, end) = sign(after);
        pieces.push(piece);
        rest = &after[end..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// What the text after a sign means, and how much of it belongs to the sign.
fn sign(after: &str) -> (Piece<'_>, usize) {
    if after.starts_with('$') {
        return (Piece::Text("$"), 1);
    }
    let braced = after.strip_prefix('{');
    let name = name(braced.unwrap_or(after));
    match braced {
        _ if name.is_empty() => (Piece::Text("$"), 0),
        None => (Piece::Option(name), name.len()),
        Some(rest) if rest[name.len()..].starts_with('}') => (Piece::Option(name), name.len() + 2),
        Some(_) => (Piece::Text("$"), 0),
    }
}

fn name(text: &str) -> &str {
    if !text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
        return "";
    }
    let end = text.find(|c: char| !(matches!(c, '_' | '.') || c.is_ascii_alphanumeric()));
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_python_ends_them() {
        let check = |text: &str, expected: &str| {
            let shown = pieces(text).into_iter().map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Option(name) => format!("<{name}>"),
            });
            assert_eq!(shown.collect::<String>(), expected, "{text:?}");
        };
        check("$state_path/tmp", "<state_path>/tmp");
        check("${state_path}x", "<state_path>x");
        check("a$database.connection-b", "a<database.connection>-b");
        check("p$$w", "p$w");
        check("$ 5", "$ 5");
        check("100$", "100$");
        check("${x", "${x");
        check("${}", "${}");
        check("$1", "$1");
        check("$$$a", "$<a>");
        check("$a$b", "<a><b>");
        check("plain", "plain");
    }
}

//! Format strings as Python's `%` operator reads them with a dictionary at its right: `%(levelname)s`, `%(msecs)03d`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters to which a value is filled up. More is a slip of the pen, and would fill the disk.
const WIDTH_MAX: usize = 1024;

/// A format string that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Key(String, Spec),
}

/// What stands behind the key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    conversion: Conversion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Conversion {
    #[default]
    Text,
    Quoted,
    Decimal,
    Octal,
    Hex,
    UpperHex,
    Fixed,
}

/// A value for a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Python's word for it is printed.
    None,
    /// Nobody knows the key: nothing is printed. Python would lose the whole line.
    Missing,
}

impl<'a> From<&'a str> for Datum<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Datum<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl Template {
    /// The error says what is wrong with the text, to follow after its name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            pieces.push(Piece::Text(rest[..at].into()));
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                pieces.push(Piece::Text("%".into()));
                rest = after;
                continue;
            }
            let no_key = || "a `%` must be followed by `(key)` and a conversion, as in `%(message)s`, or be doubled";
            let (key, after) = rest.strip_prefix('(').ok_or_else(no_key)?.split_once(')').ok_or_else(no_key)?;
            let (spec, end) = spec(after).map_err(|what| format!("`%({key})` {what}"))?;
            pieces.push(Piece::Key(key.into(), spec));
            rest = &after[end..];
        }
        pieces.push(Piece::Text(rest.into()));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self, key: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Key(name, _) if name == key))
    }

    pub(super) fn render<'a>(&self, out: &mut String, value: impl Fn(&str) -> Datum<'a>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Key(key, spec) => spec.push(out, &value(key)),
            }
        }
    }
}

/// Reads flags, width, precision and conversion, and says where they end.
fn spec(text: &str) -> Result<(Spec, usize), String> {
    let mut spec = Spec::default();
    let mut rest = text.trim_start_matches(|c| {
        match c {
            '-' => spec.left = true,
            '0' => spec.zero = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            '#' => spec.alternate = true,
            _ => return false,
        }
        true
    });
    let number = |rest: &mut &str| -> Result<usize, String> {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        *rest = after;
        let number = if digits.is_empty() { Ok(0) } else { digits.parse() };
        number.ok().filter(|it| *it <= WIDTH_MAX).ok_or(format!("is filled up to more than {WIDTH_MAX} characters"))
    };
    spec.width = number(&mut rest)?;
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(number(&mut rest)?);
    }
    // Lengths of C types, which Python reads and ignores.
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let letter = rest.chars().next().ok_or("lacks its conversion; for text it is `s`")?;
    spec.conversion = match letter {
        's' => Conversion::Text,
        'r' | 'a' => Conversion::Quoted,
        'd' | 'i' | 'u' => Conversion::Decimal,
        'o' => Conversion::Octal,
        'x' => Conversion::Hex,
        'X' => Conversion::UpperHex,
        'f' | 'F' => Conversion::Fixed,
        other => return Err(format!("has the conversion `{other}`; known are s, r, d, x, X, o and f")),
    };
    Ok((spec, text.len() - rest.len() + letter.len_utf8()))
}

impl Spec {
    fn push(&self, out: &mut String, datum: &Datum<'_>) {
        let whole = match datum {
            Datum::Int(number) => Some(*number),
            Datum::Bool(bit) => Some(i64::from(*bit)),
            // As Python does: the fraction is cut off.
            Datum::Float(number) => Some(*number as i64),
            _ => None,
        };
        let magnitude = whole.map(i64::unsigned_abs);
        let digits = match (self.conversion, magnitude) {
            (Conversion::Decimal, Some(it)) => it.to_string(),
            (Conversion::Octal, Some(it)) => format!("{}{it:o}", if self.alternate { "0o" } else { "" }),
            (Conversion::Hex, Some(it)) => format!("{}{it:x}", if self.alternate { "0x" } else { "" }),
            (Conversion::UpperHex, Some(it)) => format!("{}{it:X}", if self.alternate { "0X" } else { "" }),
            (Conversion::Fixed, Some(_)) => {
                let number = if let Datum::Float(number) = datum { *number } else { whole.unwrap_or_default() as f64 };
                format!("{:.*}", self.precision.unwrap_or(6), number.abs())
            }
            // A number was asked for and there is none: Python gives up on the line, and we print what there is.
            (conversion, _) => return self.push_text(out, &text(datum, conversion == Conversion::Quoted)),
        };
        let is_negative = match datum {
            Datum::Float(number) => *number < 0.0,
            _ => whole.is_some_and(|it| it < 0),
        };
        let sign = match () {
            () if is_negative => "-",
            () if self.plus => "+",
            () if self.space => " ",
            () => "",
        };
        let digits = match self.precision {
            Some(length) if self.conversion != Conversion::Fixed => format!("{digits:0>length$}"),
            _ => digits,
        };
        if self.zero && !self.left {
            let width = self.width.saturating_sub(sign.len());
            // Writing into memory cannot fail.
            let _ = write!(out, "{sign}{digits:0>width$}");
        } else {
            self.push_filled(out, &format!("{sign}{digits}"));
        }
    }

    fn push_text(&self, out: &mut String, text: &str) {
        match self.precision {
            Some(length) => self.push_filled(out, &text.chars().take(length).collect::<String>()),
            None => self.push_filled(out, text),
        }
    }

    fn push_filled(&self, out: &mut String, text: &str) {
        let fill = self.width.saturating_sub(text.chars().count());
        let blanks = " ".repeat(fill);
        let (before, after) = if self.left { ("", &*blanks) } else { (&*blanks, "") };
        out.extend([before, text, after]);
    }
}

fn text<'a>(datum: &'a Datum<'_>, quoted: bool) -> Cow<'a, str> {
    match datum {
        Datum::Text(text) if quoted => {
            let quote = if text.contains('\'') && !text.contains('"') { "\"" } else { "'" };
            format!("{quote}{}{quote}", if quote == "'" { text.replace('\'', "\\'") } else { text.to_string() }).into()
        }
        Datum::Text(text) => Cow::Borrowed(text),
        Datum::Int(number) => number.to_string().into(),
        Datum::Float(number) => format!("{number:?}").into(),
        Datum::Bool(true) => "True".into(),
        Datum::Bool(false) => "False".into(),
        Datum::None => "None".into(),
        Datum::Missing => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        let mut out = String::new();
        Template::parse(template).unwrap().render(&mut out, |key| match key {
            "s" => "text".into(),
            "q" => "it's".into(),
            "i" => Datum::Int(42),
            "n" => Datum::Int(-7),
            "f" => Datum::Float(212.75),
            "b" => Datum::Bool(true),
            "none" => Datum::None,
            _ => Datum::Missing,
        });
        out
    }

    /// What is expected is what Python 3.11 prints for the same.
    #[test]
    fn templates_are_filled_as_python_fills_them() {
        let check = |template: &str, expected: &str| assert_eq!(rendered(template), expected, "{template:?}");
        check("%(s)s|%(i)d|%(none)s|%(b)s", "text|42|None|True");
        check("%(i)05d|%(n)05d|%(f)03d|%(i)5d|%(i)-5d|", "00042|-0007|212|   42|42   |");
        check("%(s)8s|%(s)-8s|%(s).2s|%(s)08s", "    text|text    |te|    text");
        check("%(f).1f|%(f)s|%(i)f|%(n)+d|%(i)+d|%(i) d", "212.8|212.75|42.000000|-7|+42| 42");
        check("%(i)x|%(i)X|%(i)#x|%(i)o|%(i).4d", "2a|2A|0x2a|52|0042");
        check("%(s)r|%(q)r|100%%", "'text'|\"it's\"|100%");
        check("%(i)ld", "42");
        check("[%(unknown)s]", "[]");
        check("[%(s)d]", "[text]");
        check("", "");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        let check = |template: &str, expected: &str| {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(expected), "{template:?}: {error}");
        };
        check("100 %", "must be followed");
        check("%s", "must be followed");
        check("%(message", "must be followed");
        check("%(message)", "`%(message)` lacks its conversion");
        check("%(message)y", "`y`");
        check("%(message)99999s", "1024");
    }
}

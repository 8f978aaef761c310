//! JSON as Python's `json` module writes and reads it, where that differs from everybody else's.
//!
//! Written: `", "` and `": "` between things, everything outside of ASCII as `\uXXXX`, floats as `repr` shows them.
//! Read: what Python writes although no standard has it, that is `NaN`, `Infinity` and halves of surrogate pairs. Text
//! in Rust cannot hold such halves; each becomes U+FFFD. Numbers that no 64 bits hold become floats or are refused, and
//! so is nesting deeper than 128.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// `value` as `json.dumps` writes it.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> String {
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, Python))
        .expect("maps with text for keys are all that is written, and memory takes every byte");
    String::from_utf8(bytes).expect("the formatter writes ASCII")
}

/// What `text` says, read as tolerantly as `json.loads` does.
pub(crate) fn read(text: &str) -> Result<Value, serde_json::Error> {
    // Nearly every message is standard JSON; the others pay for being read twice.
    serde_json::from_str(text).or_else(|error| match mend(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(mended) => serde_json::from_str(&mended),
    })
}

/// Python's name of the type that `value` is read as, for messages that a Python programmer will read.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii()) {
            let (ascii, others) = rest.split_at(at);
            writer.write_all(ascii.as_bytes())?;
            let end = others.find(|c: char| c.is_ascii()).unwrap_or(others.len());
            for unit in others[..end].encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &others[end..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(repr(value).as_bytes())
    }
}

/// The shortest text that reads back as `value`, laid out as Python does: powers of ten from -4 to 15 are spelled out.
fn repr(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` always writes an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `text` with what only Python writes put in the nearest standard form. Borrowed if there was nothing of the kind.
fn mend(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut kept = 0;
    let mut at = 0;
    let mut in_string = false;
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let (length, replacement) = match byte {
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            b'\\' if in_string => match surrogate(&bytes[at..]) {
                Some(Surrogate::High) if matches!(surrogate(&bytes[at + 6..]), Some(Surrogate::Low)) => (12, None),
                Some(_) => (6, Some("\\ufffd")),
                // Whatever is escaped, a quote or a backslash above all, is not looked at by itself.
                None => (2, None),
            },
            b'N' if !in_string && bytes[at..].starts_with(b"NaN") => (3, Some("null")),
            b'-' if !in_string && bytes[at..].starts_with(b"-Infinity") => (9, Some("null")),
            b'I' if !in_string && bytes[at..].starts_with(b"Infinity") => (8, Some("null")),
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            // Only ASCII was matched, on both sides: these are borders of characters.
            mended.push_str(&text[kept..at]);
            mended.push_str(replacement);
            kept = at + length;
        }
        at += length;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[kept..]);
    Cow::Owned(mended)
}

enum Surrogate {
    High,
    Low,
}

/// Which half of a pair the escape at the beginning of `bytes` is.
fn surrogate(bytes: &[u8]) -> Option<Surrogate> {
    let digits = std::str::from_utf8(bytes.strip_prefix(b"\\u")?.get(..4)?).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(Surrogate::High),
        0xDC00..=0xDFFF => Some(Surrogate::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_look_as_in_python() {
        // The right column is what CPython 3.11 prints for `repr`.
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (33.333_333_333_333_336, "33.333333333333336"),
            (48.828_125, "48.828125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (5e-324, "5e-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
        ] {
            assert_eq!(repr(value), expected);
        }
    }

    #[test]
    fn text_is_ascii_with_the_escapes_of_python() {
        let written = write(&json!({"é": ["\u{1F600}\u{7f}", "a\"\\/\u{8}\u{c}\n\r\t\u{1}", "日本 x"], "n": null}));
        let expected = r#"{"\u00e9": ["\ud83d\ude00"#.to_owned()
            + "\u{7f}"
            + r#"", "a\"\\/\b\f\n\r\t\u0001", "\u65e5\u672c x"], "n": null}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn what_only_python_writes_is_read() {
        for (text, expected) in [
            (r#"["\ud800"]"#, json!(["\u{fffd}"])),
            (r#"["\udcff-\ud83d\ude00"]"#, json!(["\u{fffd}-\u{1F600}"])),
            (r#"["\ud800\ud83d\ude00", "\\ud800"]"#, json!(["\u{fffd}\u{1F600}", "\\ud800"])),
            (r"[NaN, Infinity, -Infinity]", json!([null, null, null])),
            (r#"["NaN", "a\"Infinity", NaN]"#, json!(["NaN", "a\"Infinity", null])),
            (r#"{"日\ud8ff": NaN}"#, json!({"日\u{fffd}": null})),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in ["", "{", r#"["\ud8"#, r#"["\"#, "[Na]", "nan", r#"["\ud8zz"]"#, r#""\ud800"#] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&("[".repeat(100_000) + &"]".repeat(100_000))).is_err());
    }
}

//! From the text of a value to what it means. Errors say what it must be, and leave the text to the caller, who knows
//! whether it may be shown.

use std::collections::BTreeMap;

use super::Kind;

type Reason = String;

/// A value of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typed {
    Str(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    List(Vec<String>),
    Dict(BTreeMap<String, String>),
    ListDict(BTreeMap<String, Vec<String>>),
    /// An empty number.
    Null,
}

pub(crate) fn typed(kind: Kind, text: &str) -> Result<Typed, Reason> {
    Ok(match kind {
        Kind::Str => Typed::Str(text.into()),
        Kind::Bool => Typed::Bool(boolean(text)?),
        Kind::Int { .. } | Kind::Float if text.trim().is_empty() => Typed::Null,
        Kind::Int { min, max } => Typed::Int(integer(text, min, max)?),
        Kind::Float => Typed::Float(float(text)?),
        Kind::List => Typed::List(list(text)),
        Kind::Dict => Typed::Dict(dict(text)?),
        Kind::ListDict => Typed::ListDict(list_dict(text)?),
    })
}

fn boolean(text: &str) -> Result<bool, Reason> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true, yes, on or 1, or false, no, off or 0".into()),
    }
}

fn integer(text: &str, min: i64, max: i64) -> Result<i64, Reason> {
    let number: i64 = text.trim().parse().map_err(|_| "must be a whole decimal number".to_owned())?;
    if number < min {
        return Err(format!("must be at least {min}"));
    }
    if number > max {
        return Err(format!("must be at most {max}"));
    }
    Ok(number)
}

fn float(text: &str) -> Result<f64, Reason> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "must be a decimal number".into())
}

fn list(text: &str) -> Vec<String> {
    let text = text.trim().trim_end_matches(',');
    if text.is_empty() { Vec::new() } else { text.split(',').map(|item| item.trim().into()).collect() }
}

fn dict(text: &str) -> Result<BTreeMap<String, String>, Reason> {
    let mut pairs = BTreeMap::new();
    if text.trim().is_empty() {
        return Ok(pairs);
    }
    for part in text.split(',') {
        let (key, value) = part
            .split_once(':')
            .ok_or("must be `key:value` pairs with commas between them; a value cannot hold a comma")?;
        insert(&mut pairs, key, value.trim().into())?;
    }
    Ok(pairs)
}

fn list_dict(text: &str) -> Result<BTreeMap<String, Vec<String>>, Reason> {
    let mut pairs = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let pair = || "must be `key:[a, b]` pairs with commas between them".to_owned();
        let (key, after) = rest.split_once(':').ok_or_else(pair)?;
        let (items, after) = after.trim_start().strip_prefix('[').and_then(|it| it.split_once(']')).ok_or_else(pair)?;
        insert(&mut pairs, key, list_of_brackets(items))?;
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',').map(str::trim_start).filter(|rest| !rest.is_empty()).ok_or_else(pair)?;
    }
    Ok(pairs)
}

/// Between brackets a last comma makes an empty item: oslo.config takes it off outside of them only.
fn list_of_brackets(items: &str) -> Vec<String> {
    if items.is_empty() { Vec::new() } else { items.split(',').map(|item| item.trim().into()).collect() }
}

fn insert<T>(pairs: &mut BTreeMap<String, T>, key: &str, value: T) -> Result<(), Reason> {
    let key = key.trim();
    if key.is_empty() {
        return Err("must have a key before each `:`".into());
    }
    match pairs.insert(key.into(), value) {
        None => Ok(()),
        Some(_) => Err("must have each key once".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, text: &str, expected: Typed) {
        assert_eq!(typed(kind, text), Ok(expected), "{text:?}");
    }

    #[track_caller]
    fn check_error(kind: Kind, text: &str) {
        assert!(typed(kind, text).is_err(), "{text:?}");
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).into()).collect()
    }

    #[test]
    fn booleans() {
        for text in ["true", "1", "yes", "on", "True", "YES"] {
            check(Kind::Bool, text, Typed::Bool(true));
        }
        for text in ["false", "0", "no", "off", "Off"] {
            check(Kind::Bool, text, Typed::Bool(false));
        }
        for text in ["", "t", "maybe", "2"] {
            check_error(Kind::Bool, text);
        }
    }

    #[test]
    fn numbers() {
        check(Kind::INT, " 12 ", Typed::Int(12));
        check(Kind::INT, "-3", Typed::Int(-3));
        check(Kind::INT, "", Typed::Null);
        check(Kind::INT, " ", Typed::Null);
        check_error(Kind::INT, "1.0");
        check_error(Kind::INT, "0x10");
        check_error(Kind::INT, "99999999999999999999");
        let bounded = Kind::Int { min: 1, max: 9 };
        check(bounded, "9", Typed::Int(9));
        assert_eq!(typed(bounded, "0"), Err("must be at least 1".into()));
        assert_eq!(typed(bounded, "10"), Err("must be at most 9".into()));
        check(Kind::Float, " 4.5", Typed::Float(4.5));
        check(Kind::Float, "", Typed::Null);
        check_error(Kind::Float, "much");
        check_error(Kind::Float, "inf");
    }

    #[test]
    fn lists_split_at_every_comma() {
        let check = |text: &str, items: &[&str]| check(Kind::List, text, Typed::List(strings(items)));
        check("a, b ,c", &["a", "b", "c"]);
        check("\"a,b\",c", &["\"a", "b\"", "c"]);
        check("", &[]);
        check("a,,b", &["a", "", "b"]);
        check("[a,b]", &["[a", "b]"]);
        check("\nx,\ny", &["x", "y"]);
        check("a,b,", &["a", "b"]);
    }

    #[test]
    fn dictionaries_split_at_commas_and_then_at_the_first_colon() {
        let check = |text: &str, pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            check(Kind::Dict, text, Typed::Dict(pairs));
        };
        check("k:v,k2:v2", &[("k", "v"), ("k2", "v2")]);
        check("nfs:-o a:b", &[("nfs", "-o a:b")]);
        check(" k : v ", &[("k", "v")]);
        check("", &[]);
        check_error(Kind::Dict, "nfs:-o nfsvers=3,rw");
        check_error(Kind::Dict, "k");
        check_error(Kind::Dict, "k:v,k:w");
        check_error(Kind::Dict, ":v");
    }

    #[test]
    fn dictionaries_of_lists_want_brackets() {
        let check = |text: &str, pairs: &[(&str, &[&str])]| {
            let pairs = pairs.iter().map(|(key, items)| ((*key).into(), strings(items))).collect();
            check(Kind::ListDict, text, Typed::ListDict(pairs));
        };
        check("ip: [nfs, cifs], user: [cifs]", &[("ip", &["nfs", "cifs"]), ("user", &["cifs"])]);
        check("ip:[]", &[("ip", &[])]);
        check("ip:['nfs']", &[("ip", &["'nfs'"])]);
        check("", &[]);
        check_error(Kind::ListDict, "ip:nfs");
        check_error(Kind::ListDict, "{'ip': ['nfs']}");
        check_error(Kind::ListDict, "ip:[a],ip:[b]");
        check_error(Kind::ListDict, "ip:[a] x");
        check_error(Kind::ListDict, "ip:[a");
        check_error(Kind::ListDict, "ip:[a],");
    }
}

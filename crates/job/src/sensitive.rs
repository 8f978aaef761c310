//! Text that may hold secrets: shown with them masked, whoever prints, logs or serialises it.
//!
//! The full text leaves through [`Sensitive::expose`] alone. Stores and worker pipes, which need it, carry the secrets
//! of a specification apart from it ([`Secrets`]).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands for a secret.
pub const MASK: &str = "***";

/// Names of options whose value is a secret, as mount helpers know them. Compared without regard to case.
const SECRET_KEYS: [&str; 8] = ["pass", "password", "password2", "passwd", "secret", "credentials", "cred", "key"];

/// Whether the value of an option of this name must never be shown.
pub fn is_secret_key(key: &str) -> bool {
    SECRET_KEYS.iter().any(|secret| key.eq_ignore_ascii_case(secret))
}

/// A text, and the same with its secrets masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive {
    full: String,
    shown: String,
}

impl Sensitive {
    /// A text in which the values of secret options (`password=...`) and passwords of URLs are masked.
    pub fn new(text: impl Into<String>) -> Self {
        let full = text.into();
        Self { shown: mask(&full), full }
    }

    /// A text that is a secret as a whole.
    pub fn secret(text: impl Into<String>) -> Self {
        Self { full: text.into(), shown: MASK.into() }
    }

    /// The full text. For the helper program, the store's secrets and the worker's pipe; never for a message.
    pub fn expose(&self) -> &str {
        &self.full
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn has_secret(&self) -> bool {
        self.full != self.shown
    }

    /// The secrets in it, for masking them in texts of others.
    pub fn secret_values(&self) -> Vec<&str> {
        if self.shown == MASK {
            return vec![&self.full];
        }
        let mut values = Vec::new();
        each_secret(&self.full, |_, value| values.push(value));
        values
    }

    /// The secret itself is not here any more.
    pub fn is_lost(&self) -> bool {
        self.full.contains(MASK)
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl fmt::Display for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Serialize for Sensitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// The text with the values of secret options and the passwords of URLs masked. A value ends at a comma or at white
/// space, unless it is quoted.
pub fn mask(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let rest = each_secret(text, |before, _| {
        shown.push_str(before);
        shown.push_str(MASK);
    });
    shown.push_str(rest);
    shown
}

/// Calls `visit` with each secret, and with what stands between it and the one before; answers what stands after the
/// last one.
fn each_secret<'a>(text: &'a str, mut visit: impl FnMut(&'a str, &'a str)) -> &'a str {
    let mut secrets: Vec<_> = values_of_options(text).chain(passwords_of_urls(text)).collect();
    secrets.sort_unstable_by_key(|range| range.start);
    let mut told = 0;
    for secret in secrets {
        // One within the other: `password=http://u:p@h`.
        if secret.start >= told {
            visit(&text[told..secret.start], &text[secret.clone()]);
            told = secret.end;
        }
    }
    &text[told..]
}

/// Where the values of secret options are.
fn values_of_options(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let equals = at + text[at..].find('=')?;
            let (before, value) = (&text[at..equals], &text[equals + 1..]);
            let key_start = before
                .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
                .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
            at = equals + 1;
            if !is_secret_key(before[key_start..].trim_start_matches('-')) {
                continue;
            }
            let length = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |at| at + 2),
                _ => value.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(value.len()),
            };
            if length > 0 {
                at += length;
                return Some(at - length..at);
            }
        }
    })
}

/// Where `https://user:password@host` has its password.
fn passwords_of_urls(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, found)| {
        let start = at + found.len();
        let rest = &text[start..];
        let end = rest.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace()).unwrap_or(rest.len());
        let user_end = rest[..end].rfind('@')?;
        let colon = rest[..user_end].find(':')?;
        (colon + 1 < user_end).then(|| start + colon + 1..start + user_end)
    })
}

/// The secrets of a specification by the place they belong to, apart from it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub(crate) BTreeMap<String, String>);

impl Secrets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those alone that open repositories. Whoever only moves bytes needs no others.
    #[must_use]
    pub fn for_repository(mut self) -> Self {
        self.0.retain(|place, _| ["backup.password", "source.url", "dest.url"].contains(&place.as_str()));
        self
    }

    /// Those alone that are needed after the job's end: the key that its answer is signed with.
    #[must_use]
    pub fn for_answer(mut self) -> Self {
        self.0.retain(|place, _| place == "webhook.secret");
        self
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_options_are_masked_and_nothing_else() {
        let check = |text: &str, shown: &str| {
            assert_eq!(mask(text), shown);
            let sensitive = Sensitive::new(text);
            assert_eq!((format!("{sensitive}"), format!("{sensitive:?}")), (shown.into(), format!("{shown:?}")));
            assert_eq!(serde_json::to_string(&sensitive).expect("encodes"), format!("{shown:?}"));
            assert_eq!(sensitive.expose(), text);
        };
        check("password=geheim", "password=***");
        check("mount -t cifs -o user=a,pass=b,vers=3 //h/s /m", "mount -t cifs -o user=a,pass=***,vers=3 //h/s /m");
        check("PASSWORD=x,Secret=y", "PASSWORD=***,Secret=***");
        check("-o credentials=/etc/c -v", "-o credentials=*** -v");
        check("--password=p q", "--password=*** q");
        check("password=", "password=");
        check("password='a, b',x=1", "password=***,x=1");
        check("vers=4.1,sec=krb5,timeo=50", "vers=4.1,sec=krb5,timeo=50");
        check("notpass=1", "notpass=1");
        check("é=1,secret=ü,b", "é=1,secret=***,b");
        check("no option", "no option");
        check("rest:https://u:p@h:8000/a@b:c", "rest:https://u:***@h:8000/a@b:c");
        check("s3:https://k:a:b@h/ x://u:q@i", "s3:https://k:***@h/ x://u:***@i");
        check("https://h:1/a https://u@h https://u:@h", "https://h:1/a https://u@h https://u:@h");
        check("password=http://u:p@h,a", "password=***,a");
    }

    #[test]
    fn a_whole_secret_shows_nothing() {
        let secret = Sensitive::secret("a key");
        assert_eq!(format!("{secret} {secret:?}"), "*** \"***\"");
        assert!(secret.has_secret() && !secret.is_lost() && Sensitive::new("pass=***").is_lost());
        assert_eq!(secret.secret_values(), ["a key"]);
    }

    #[test]
    fn the_secrets_of_a_text_can_be_listed() {
        let text = Sensitive::new("-o user=a,pass=b,secret='c d' --password=e f credentials=");
        assert_eq!(text.secret_values(), ["b", "'c d'", "e"]);
        assert_eq!(Sensitive::new("vers=3").secret_values(), Vec::<&str>::new());
    }
}

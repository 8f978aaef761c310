//! Bearer tokens of the TCP door: a file with one line for each, `name:scope:sha256[:expires]`. The token itself is shown
//! once, when it is made, and never kept.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::hex::{hex, unhex};

/// Lets scanners for leaked secrets, and people, know one when they see it.
pub const PREFIX: &str = "mdt_";

const NAME_BYTES_MAX: usize = 64;
/// Thousands of tokens; more would be a mistake in the path.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at jobs, reports and figures.
    Read,
    /// Everything.
    Write,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            _ => Err(TokenError::BadScope(text.chars().take(32).collect())),
        }
    }
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub scope: Scope,
    pub expires: Option<Timestamp>,
    hash: [u8; 32],
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.scope, hex(&self.hash))?;
        self.expires.map_or(Ok(()), |expires| write!(f, ":{expires}"))
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    #[error("cannot read the tokens in `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the tokens to `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{}` must belong to the service's user and be closed to all others (mode 0600)", path.display())]
    NotPrivate { path: PathBuf },
    #[error("line {line} of `{}` is not `name:scope:sha256[:expires]`: {what}", path.display())]
    BadLine { path: PathBuf, line: usize, what: &'static str },
    #[error("`{0}` is not a scope (`read` or `write`)")]
    BadScope(String),
    #[error("`{0}` is not a name (letters, digits, `.`, `_` and `-`, at most {NAME_BYTES_MAX})")]
    BadName(String),
    #[error("there is a token named `{0}` already")]
    NameTaken(String),
    #[error("there is no token named `{0}`")]
    NoSuchToken(String),
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// The tokens that are good, by their hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Vec<Entry>);

impl Tokens {
    pub(crate) fn load(path: &Path) -> Result<Self, TokenError> {
        list(path).map(Self)
    }

    /// The entry of a token that has not expired. Takes the same time whichever it is.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<&Entry> {
        let hash = digest(token);
        let mut found = None;
        for entry in &self.0 {
            if bool::from(entry.hash.ct_eq(&hash)) {
                found = Some(entry);
            }
        }
        found.filter(|entry| entry.expires.is_none_or(|expires| now < expires))
    }
}

/// What `path` holds. The file must be private: whoever can write it is a caller with every right.
pub fn list(path: &Path) -> Result<Vec<Entry>, TokenError> {
    let failed = |source| TokenError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    let is_ours = facts.uid() == effective_uid().map_err(failed)?;
    if !facts.is_file() || !is_ours || facts.mode() & 0o077 != 0 {
        return Err(TokenError::NotPrivate { path: path.into() });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |what| TokenError::BadLine { path: path.into(), line: index + 1, what };
        entries.push(parse(line).map_err(bad)?);
    }
    Ok(entries)
}

fn parse(line: &str) -> Result<Entry, &'static str> {
    let mut fields = line.splitn(4, ':');
    let mut next = || fields.next().ok_or("a field is missing");
    let (name, scope, hash) = (next()?, next()?, next()?);
    if !is_name(name) {
        return Err("the name has other characters than letters, digits, `.`, `_` and `-`");
    }
    let scope = scope.parse().map_err(|_| "the scope is neither `read` nor `write`")?;
    let hash = unhex(hash).ok_or("the hash does not have 64 hexadecimal digits")?;
    let expires = fields.next().map(str::parse).transpose().map_err(|_| "the time is not as 2030-01-31T00:00:00Z")?;
    Ok(Entry { name: name.into(), scope, expires, hash })
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain)
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Makes a token, adds its hash to the file (made where there is none) and gives the token: nobody can show it again.
pub fn create(path: &Path, name: &str, scope: Scope, expires: Option<Timestamp>) -> Result<String, TokenError> {
    if !is_name(name) {
        return Err(TokenError::BadName(name.chars().take(NAME_BYTES_MAX).collect()));
    }
    let mut entries = existing(path)?;
    if entries.iter().any(|entry| entry.name == name) {
        return Err(TokenError::NameTaken(name.into()));
    }
    let mut random = [0; 32];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut random).map_err(|_| TokenError::NoRandom)?;
    let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
    entries.push(Entry { name: name.into(), scope, expires, hash: digest(&token) });
    write(path, &entries)?;
    Ok(token)
}

/// Removes a token. It is good until the service reads the file again.
pub fn revoke(path: &Path, name: &str) -> Result<(), TokenError> {
    let mut entries = existing(path)?;
    let count = entries.len();
    entries.retain(|entry| entry.name != name);
    if entries.len() == count {
        return Err(TokenError::NoSuchToken(name.into()));
    }
    write(path, &entries)
}

fn existing(path: &Path) -> Result<Vec<Entry>, TokenError> {
    match list(path) {
        Err(TokenError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}

/// Replaces the file whole, so that no reader ever sees half of it.
fn write(path: &Path, entries: &[Entry]) -> Result<(), TokenError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || {
        // One that a crash left behind may have any mode.
        fs::remove_file(&new)
            .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "# Tokens of the data service: name:scope:sha256 of the token[:expires]")?;
        entries.iter().try_for_each(|entry| writeln!(file, "{entry}"))?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| TokenError::Write { path: path.into(), source })
}

/// The kernel shows it as the owner of what belongs to this process.
fn effective_uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn hash_of(text: &str) -> String {
        hex(&digest(text))
    }

    #[test]
    fn a_line_is_read_or_refused_with_its_reason() {
        let hash = hash_of("x");
        let check = |line: &str, expected: Result<(Scope, Option<&str>), &str>| {
            let entry = parse(line).map(|entry| (entry.scope, entry.expires.map(|time| time.to_string())));
            assert_eq!(entry, expected.map(|(scope, time)| (scope, time.map(Into::into))), "{line}");
        };
        check(&format!("ci.1:read:{hash}"), Ok((Scope::Read, None)));
        check(&format!("a:write:{hash}:2030-01-01T00:00:00Z"), Ok((Scope::Write, Some("2030-01-01T00:00:00Z"))));
        check(&format!("a:write:{hash}:soon"), Err("the time is not as 2030-01-31T00:00:00Z"));
        check(&format!("a:admin:{hash}"), Err("the scope is neither `read` nor `write`"));
        check("a:read:beef", Err("the hash does not have 64 hexadecimal digits"));
        check("a:read", Err("a field is missing"));
        check(&format!("a b:read:{hash}"), Err("the name has other characters than letters, digits, `.`, `_` and `-`"));
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_no_other_is() {
        let expires: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let tokens = Tokens(vec![
            parse(&format!("old:write:{}:{expires}", hash_of("mdt_old"))).unwrap(),
            parse(&format!("ci:read:{}", hash_of("mdt_ci"))).unwrap(),
        ]);
        let name = |token, at: &str| tokens.check(token, at.parse().unwrap()).map(|entry| entry.name.clone());
        assert_eq!(name("mdt_ci", "2040-01-01T00:00:00Z").as_deref(), Some("ci"));
        assert_eq!(name("mdt_old", "2029-12-31T23:59:59Z").as_deref(), Some("old"));
        assert_eq!(name("mdt_old", "2030-01-01T00:00:00Z"), None);
        assert_eq!(name("mdt_c", "2029-01-01T00:00:00Z"), None);
        assert_eq!(name("", "2029-01-01T00:00:00Z"), None);
    }

    #[test]
    fn the_file_keeps_hashes_only_and_is_private() {
        let dir = testkit::disk::TempDir::new();
        let path = dir.path().join("tokens");
        let token = create(&path, "ci", Scope::Read, None).unwrap();
        assert!(token.starts_with(PREFIX) && token.len() == PREFIX.len() + 43, "{token}");
        let other = create(&path, "ops", Scope::Write, Some("2031-01-01T00:00:00Z".parse().unwrap())).unwrap();
        assert_ne!(token, other);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token) && text.contains(&hash_of(&token)), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Tokens::load(&path).unwrap().check(&other, Timestamp::now()).unwrap().name, "ops");

        assert!(matches!(create(&path, "ci", Scope::Read, None), Err(TokenError::NameTaken(_))));
        assert!(matches!(create(&path, "a:b", Scope::Read, None), Err(TokenError::BadName(_))));
        revoke(&path, "ci").unwrap();
        assert!(matches!(revoke(&path, "ci"), Err(TokenError::NoSuchToken(_))));
        assert_eq!(list(&path).unwrap().len(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(list(&path), Err(TokenError::NotPrivate { .. })));
        assert!(matches!(create(&path, "x", Scope::Read, None), Err(TokenError::NotPrivate { .. })));
    }
}

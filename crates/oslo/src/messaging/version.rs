//! Versions of interfaces, and which one serves which.

use std::fmt;
use std::str::FromStr;

/// `major.minor[.revision]` of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RpcVersion {
    pub major: u32,
    pub minor: u32,
    pub revision: u32,
}

impl RpcVersion {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, revision: 0 }
    }

    /// Whether somebody who offers this version understands a request made for `requested`: the same major version,
    /// and nothing newer than this.
    pub fn serves(self, requested: Self) -> bool {
        self.major == requested.major && (requested.minor, requested.revision) <= (self.minor, self.revision)
    }
}

impl fmt::Display for RpcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.revision == 0 { Ok(()) } else { write!(f, ".{}", self.revision) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is two or three numbers with dots between them, such as 1.1")]
pub struct NotAVersion;

impl FromStr for RpcVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten().ok_or(NotAVersion)
        });
        let mut next = || parts.next().transpose();
        let (major, minor) = (next()?.ok_or(NotAVersion)?, next()?.ok_or(NotAVersion)?);
        let revision = next()?.unwrap_or(0);
        // What comes after the third number means nothing to oslo.messaging either.
        Ok(Self { major, minor, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_serves_its_major_up_to_itself() {
        for (offered, requested, expected) in [
            ("1.1", "1.0", true),
            ("1.1", "1.1", true),
            ("1.1", "1.2", false),
            ("1.1", "2.0", false),
            ("2.0", "1.0", false),
            ("1.1", "1.1.1", false),
            ("1.1.2", "1.1.1", true),
            ("1.2", "1.1.9", true),
            ("1.10", "1.9", true),
        ] {
            let offered: RpcVersion = offered.parse().unwrap();
            assert_eq!(offered.serves(requested.parse().unwrap()), expected, "{offered} for {requested}");
        }
    }

    #[test]
    fn only_numbers_with_dots_are_versions() {
        assert_eq!("1.2.3".parse(), Ok(RpcVersion { major: 1, minor: 2, revision: 3 }));
        for text in ["", "1", "1.", ".1", "a.b", "1.x", "-1.0", "1.+1", "1.99999999999", " 1.0", "1.0.", "latest"] {
            assert_eq!(text.parse::<RpcVersion>(), Err(NotAVersion), "{text}");
        }
        assert_eq!("1.1.2".parse::<RpcVersion>().unwrap().to_string(), "1.1.2");
    }
}

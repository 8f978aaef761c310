//! The repositories of the service's configuration: jobs name them, and only the order to a worker has what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use job::{BackupPlan, Endpoint, Failure, FailureCode, Format, JobSpec, Keep, Kind, Sensitive, Side, Step};

use crate::shown;

/// A repository that jobs may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// A directory, a mount or a URL.
    pub endpoint: Endpoint,
    pub format: Format,
    /// Its first line opens the repository, or, where jobs say in which directory theirs is, all of them. Read for each
    /// run, so that it can be changed.
    pub password_file: Option<PathBuf>,
    /// For a URL: its first line is `user:password`, or `access key:secret key`. Read for each run, too.
    pub credentials_file: Option<PathBuf>,
    /// What a job of kind `prune` leaves that does not say so itself.
    pub keep: Keep,
}

/// Longer is no password but another file.
const SECRET_BYTES_MAX: usize = 4096;

/// The specification with what it names; as it is where it names nothing.
pub(crate) fn resolve(repositories: &BTreeMap<String, Repository>, spec: &JobSpec) -> Result<JobSpec, Failure> {
    let mut spec = spec.clone();
    let kind = spec.kind;
    let Some(side) = kind.repository_side() else { return Ok(spec) };
    let endpoint = if side == Side::Source { &mut spec.source } else { &mut spec.dest };
    let Endpoint::Repository { name } = endpoint else { return Ok(spec) };
    let Some(repository) = repositories.get(name) else {
        return Err(bad(crate::mount::not_resolved(name)));
    };
    let plan = spec.backup.get_or_insert_default();
    plan.format = repository.format;
    if kind == Kind::Prune && plan.keep.is_all() {
        plan.keep = repository.keep;
    }
    plan.password = match &repository.password_file {
        Some(file) => Some(Sensitive::secret(first_line("password file", name, file)?)),
        None => None,
    };
    let found = match (&repository.endpoint, &repository.credentials_file) {
        (Endpoint::Url { url }, Some(file)) => {
            let credentials = first_line("credentials file", name, file)?;
            Endpoint::Url { url: Sensitive::new(with_credentials(url.expose(), &credentials)) }
        }
        (found, _) => found.clone(),
    };
    *endpoint = found;
    complete(plan)?;
    Ok(spec)
}

/// What was not known when the job was taken.
fn complete(plan: &BackupPlan) -> Result<(), Failure> {
    match plan.format {
        Format::Restic if plan.password.is_none() => Err(bad("the repository has no password file".into())),
        Format::Restic | Format::Directory => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a path of the service's configuration, where only it may write")]
fn first_line(kind: &str, name: &str, file: &PathBuf) -> Result<String, Failure> {
    let what = || format!("the {kind} `{}` of the repository `{}`", shown(file), name.escape_debug());
    let text = std::fs::read_to_string(file).map_err(|error| bad(format!("cannot read {}: {error}", what())))?;
    let first = text.lines().next().unwrap_or_default().trim();
    if first.is_empty() || first.len() > SECRET_BYTES_MAX {
        return Err(bad(format!("{} has nothing of use in its first line", what())));
    }
    Ok(first.to_owned())
}

/// A URL with `user:password` in its place, where it has none yet. What means something in a URL is percent-encoded.
pub fn with_credentials(url: &str, credentials: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (user, password) = (percent_encoded(user.as_bytes()), percent_encoded(password.as_bytes()));
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if rest[..authority_end].contains('@') {
        return url.to_owned();
    }
    format!("{scheme}://{user}:{password}@{rest}")
}

/// An address with a directory of its own below it.
pub(crate) fn below(address: &str, subdir: Option<&Path>) -> String {
    let Some(subdir) = subdir else { return address.to_owned() };
    let names = subdir.components().map(|name| percent_encoded(name.as_os_str().as_encoded_bytes()));
    names.fold(address.trim_end_matches('/').to_owned(), |address, name| format!("{address}/{name}"))
}

fn percent_encoded(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn bad(message: String) -> Failure {
    Failure::new(Step::Mount, FailureCode::BadSpec, message)
}

#[cfg(test)]
mod tests {
    use super::{below, with_credentials};

    #[test]
    fn credentials_stand_where_a_url_has_them_and_change_nothing_else() {
        let check = |url: &str, credentials: &str, expected: &str| {
            assert_eq!(with_credentials(url, credentials), expected);
        };
        check("rest:https://h:8000/a", "u:p", "rest:https://u:p@h:8000/a");
        check("s3:http://h/b", "AK:a/b+c:d@e", "s3:http://AK:a%2Fb%2Bc%3Ad%40e@h/b");
        check("rest:http://x:y@h/", "u:p", "rest:http://x:y@h/");
        check("rest:http://h/a@b", "u:p", "rest:http://u:p@h/a@b");
    }
    #[test]
    fn a_directory_of_ones_own_goes_below_the_address() {
        assert_eq!(below("rest:http://h/", Some("p/q r".as_ref())), "rest:http://h/p/q%20r");
        assert_eq!(below("s3:http://h/b", None), "s3:http://h/b");
    }
}

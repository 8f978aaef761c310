//! The repository that a command line names: where it is, how backups lie in it, and what opens it.
//!
//! Words and environment variables are restic's. No password ever stands on a command line.

pub mod open;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use job::{Format, Sensitive, mask};
use work::with_credentials;

use crate::args::backup::{FormatArg, RepositoryArgs};
use crate::error::CliError;
use crate::plan::shown;
use crate::ui::console::Console;

/// How locations begin that are reached over the network.
const SCHEMES: [&str; 4] = ["rest:http://", "rest:https://", "s3:http://", "s3:https://"];
/// Storage that restic knows and this program does not.
const UNKNOWN: [&str; 7] = ["sftp:", "b2:", "azure:", "gs:", "swift:", "rclone:", "opendal:"];
/// More is no password but another file.
const SECRET_BYTES_MAX: u64 = 4096;

/// What the environment says of repositories, by restic's names.
#[derive(Clone, Debug, Default)]
pub struct RepositoryEnvironment {
    pub repository: Option<Sensitive>,
    pub repository_file: Option<PathBuf>,
    pub password: Option<Sensitive>,
    pub password_file: Option<PathBuf>,
    pub password_command: Option<String>,
    pub rest_user: Option<String>,
    pub rest_password: Option<Sensitive>,
    pub s3_access_key: Option<String>,
    pub s3_secret_key: Option<Sensitive>,
    pub s3_region: Option<String>,
}

impl RepositoryEnvironment {
    pub fn read() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
        Self {
            repository: text("RESTIC_REPOSITORY").map(Sensitive::new),
            repository_file: path("RESTIC_REPOSITORY_FILE"),
            password: text("RESTIC_PASSWORD").map(Sensitive::secret),
            password_file: path("RESTIC_PASSWORD_FILE"),
            password_command: text("RESTIC_PASSWORD_COMMAND"),
            rest_user: text("RESTIC_REST_USERNAME"),
            rest_password: text("RESTIC_REST_PASSWORD").map(Sensitive::secret),
            s3_access_key: text("AWS_ACCESS_KEY_ID"),
            s3_secret_key: text("AWS_SECRET_ACCESS_KEY").map(Sensitive::secret),
            s3_region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
        }
    }
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Directory(PathBuf),
    /// With user and password in it, where there are any.
    Url(Sensitive),
}

impl Location {
    /// For people: without passwords.
    pub fn shown(&self) -> String {
        match self {
            Self::Directory(path) => shown(path),
            Self::Url(url) => shown(url.shown()),
        }
    }

    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Url(_) => None,
        }
    }
}

/// A repository, and what opens it.
#[derive(Clone, Debug)]
pub struct RepositoryPlan {
    pub location: Location,
    /// Of S3, where it has regions.
    pub region: Option<String>,
    pub format: Format,
    /// For the format restic, and only for that.
    pub password: Option<Sensitive>,
}

/// What the command line and the environment mean together; the command line wins.
pub fn repository_plan(
    args: &RepositoryArgs,
    environment: &RepositoryEnvironment,
    console: &Console,
) -> Result<RepositoryPlan, CliError> {
    let location = location(args, environment)?;
    let format = match args.format {
        FormatArg::Restic => Format::Restic,
        FormatArg::Directory => Format::Directory,
    };
    let password = match format {
        Format::Restic => Some(password(args, environment, console)?),
        Format::Directory if matches!(location, Location::Url(_)) => {
            return Err(usage("the format directory is for directories, and the repository is a URL"));
        }
        Format::Directory if args.password_file.is_some() || args.password_command.is_some() => {
            return Err(usage("the format directory encrypts nothing, so that there is no password to give"));
        }
        Format::Directory => None,
    };
    Ok(RepositoryPlan { location, region: environment.s3_region.clone(), format, password })
}

fn location(args: &RepositoryArgs, environment: &RepositoryEnvironment) -> Result<Location, CliError> {
    let text = match (&args.repository, &args.repository_file, &environment.repository, &environment.repository_file) {
        (Some(text), ..) if mask(text) != *text => {
            return Err(usage(
                "a password on the command line can be seen by everybody on this machine: leave it out of \
                 `--repository`, and set RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD, or write the whole URL into a \
                 file and name that with `--repository-file`",
            ));
        }
        (Some(text), ..) => text.clone(),
        (None, Some(file), ..) | (None, None, None, Some(file)) => first_line(file)?,
        (None, None, Some(text), _) => text.expose().to_owned(),
        (None, None, None, None) => {
            return Err(usage("no repository is named: use `--repository`, or set RESTIC_REPOSITORY"));
        }
    };
    let text = text.trim();
    if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        let (user, password) = if text.starts_with("s3:") {
            (&environment.s3_access_key, &environment.s3_secret_key)
        } else {
            (&environment.rest_user, &environment.rest_password)
        };
        let url = match (user, password) {
            (Some(user), Some(password)) => with_credentials(text, &format!("{user}:{}", password.expose())),
            _ => text.to_owned(),
        };
        return Ok(Location::Url(Sensitive::new(url)));
    }
    if let Some(scheme) = UNKNOWN.iter().chain(&["rest:", "s3:"]).find(|scheme| text.starts_with(**scheme)) {
        return Err(usage(format!(
            "a repository at `{scheme}...` cannot be used: it is a directory, or begins with rest:http://, \
             rest:https://, s3:http:// or s3:https://"
        )));
    }
    if text.is_empty() {
        return Err(usage("the repository has no name"));
    }
    Ok(Location::Directory(text.strip_prefix("local:").unwrap_or(text).into()))
}

fn password(
    args: &RepositoryArgs,
    environment: &RepositoryEnvironment,
    console: &Console,
) -> Result<Sensitive, CliError> {
    let from_file = |file: &Path| {
        let text = first_line(file)?;
        warn_if_open(file, console);
        Ok(Sensitive::secret(text))
    };
    match (&args.password_file, &args.password_command) {
        (Some(file), _) => return from_file(file),
        (None, Some(command)) => return printed(command),
        (None, None) => {}
    }
    match (&environment.password_file, &environment.password_command, &environment.password) {
        (Some(file), ..) => from_file(file),
        (None, Some(command), _) => printed(command),
        (None, None, Some(password)) => Ok(password.clone()),
        (None, None, None) => Err(usage(
            "a restic repository needs its password: use `--password-file`, or set RESTIC_PASSWORD_FILE \
             (a repository of plain directories needs `--format directory`)",
        )),
    }
}

/// The first line, without white space around it. Further lines would be part of the password to restic and no part of
/// it to others, so there may be none.
pub fn first_line(file: &Path) -> Result<String, CliError> {
    let fail = |source| CliError::Read { path: file.into(), source };
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(fail)?;
    one_line(&text).map(ToOwned::to_owned).map_err(|why| usage(format!("the file `{}` {why}", shown(file))))
}

fn one_line(text: &str) -> Result<&str, &'static str> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err("is too long for a password or the name of a repository");
    }
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains(['\n', '\r', '\0']) { Err("has more than one line") } else { Ok(text) }
}

fn warn_if_open(file: &Path, console: &Console) {
    let Ok(meta) = std::fs::metadata(file) else { return };
    // A pipe of the shell's is for one reader alone.
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let (file, mode) = (shown(file), meta.mode() & 0o7777);
        console.warning(&format!("others may read the password file `{file}` (mode {mode:04o}): chmod 0600 {file}"));
    }
}

/// What a program prints. Its own messages go to standard error.
fn printed(command: &str) -> Result<Sensitive, CliError> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| usage("the command for the password is empty, or a quote in it has no end"))?;
    let output = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let program = shown(&words[0]);
    let output = output.map_err(|source| CliError::PasswordCommand { program: program.clone(), source })?;
    let failed =
        |why: String| CliError::PasswordCommand { program: program.clone(), source: std::io::Error::other(why) };
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("what it printed is not UTF-8".into()))?;
    one_line(&text).map(Sensitive::secret).map_err(|why| failed(format!("what it printed {why}")))
}

fn usage(text: impl Into<String>) -> CliError {
    CliError::Usage(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::ui::console::{Palette, Volume};

    fn plan(args: &RepositoryArgs, environment: &RepositoryEnvironment) -> Result<RepositoryPlan, CliError> {
        repository_plan(args, environment, &Console::new(Palette::PLAIN, Volume::Quiet))
    }

    fn named(repository: &str) -> RepositoryArgs {
        RepositoryArgs { repository: Some(repository.into()), ..RepositoryArgs::default() }
    }

    fn with_password() -> RepositoryEnvironment {
        RepositoryEnvironment { password: Some(Sensitive::secret("geheim")), ..RepositoryEnvironment::default() }
    }

    #[test]
    fn locations_are_restics() {
        let check = |text: &str, expected: Location| {
            assert_eq!(plan(&named(text), &with_password()).expect(text).location, expected);
        };
        check("/srv/backup", Location::Directory("/srv/backup".into()));
        check("local:a/b", Location::Directory("a/b".into()));
        check("rest:https://h:8000/a/", Location::Url(Sensitive::new("rest:https://h:8000/a/")));
        check("s3:http://h/b/p", Location::Url(Sensitive::new("s3:http://h/b/p")));
        for wrong in ["sftp:u@h:/x", "rest:h", "s3:h/b", "", "rclone:x:y"] {
            assert_eq!(plan(&named(wrong), &with_password()).expect_err(wrong).exit(), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn keys_of_storage_come_from_the_environment() {
        let environment = RepositoryEnvironment {
            rest_user: Some("u".into()),
            rest_password: Some(Sensitive::secret("geheim")),
            s3_access_key: Some("AK".into()),
            s3_secret_key: Some(Sensitive::secret("ge/heim")),
            ..with_password()
        };
        let check = |text: &str, expected: &str| {
            let found = plan(&named(text), &environment).expect(text);
            let Location::Url(url) = &found.location else { panic!("{found:?}") };
            assert_eq!(url.expose(), expected);
            assert!(!format!("{found:?} {}", found.location.shown()).contains("heim"), "{found:?}");
        };
        check("rest:https://h/a", "rest:https://u:geheim@h/a");
        check("s3:https://h/b", "s3:https://AK:ge%2Fheim@h/b");
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_without_being_shown() {
        let error = plan(&named("rest:https://u:geheim@h/a"), &with_password()).expect_err("refused");
        assert!(error.to_string().contains("--repository-file") && !error.to_string().contains("geheim"), "{error}");
        // In the environment it may stand.
        let environment =
            RepositoryEnvironment { repository: Some(Sensitive::new("rest:https://u:geheim@h/a")), ..with_password() };
        let found = plan(&RepositoryArgs::default(), &environment).expect("a repository");
        assert_eq!(found.location.shown(), "rest:https://u:***@h/a");
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let environment = RepositoryEnvironment { repository: Some(Sensitive::new("/b")), ..with_password() };
        let args = RepositoryArgs { password_command: Some("echo ' wort '".into()), ..named("/a") };
        let found = plan(&args, &environment).expect("a repository");
        assert_eq!(found.location, Location::Directory("/a".into()));
        assert_eq!(found.password.expect("a password").expose(), "wort");
        assert_eq!(
            plan(&RepositoryArgs::default(), &environment).expect("b").password.expect("a password").expose(),
            "geheim"
        );
    }

    #[test]
    fn what_is_missing_or_has_no_use_is_a_usage_error() {
        let none = RepositoryEnvironment::default();
        let directory = |args: RepositoryArgs| RepositoryArgs { format: FormatArg::Directory, ..args };
        for args in [
            RepositoryArgs::default(),
            named("/a"),
            directory(named("s3:https://h/b")),
            RepositoryArgs { password_file: Some("x".into()), ..directory(named("/a")) },
            RepositoryArgs { password_command: Some("echo 'a".into()), ..named("/a") },
        ] {
            assert_eq!(plan(&args, &none).expect_err("refused").exit(), Exit::Usage, "{args:?}");
        }
        assert!(plan(&directory(named("/a")), &none).expect("a directory").password.is_none());
        let command = |text: &str| RepositoryArgs { password_command: Some(text.into()), ..named("/a") };
        for failing in ["false", "/no/such/program", "printf 'a\\nb'", "true"] {
            let error = plan(&command(failing), &none).expect_err(failing);
            assert!(error.to_string().contains("the command for the password"), "{failing}: {error}");
        }
    }
}

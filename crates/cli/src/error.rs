//! Every error of the command in words for people: what failed, why, and what to do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use backup::directory::DirectoryError;
use backup::restic::{RepositoryError, StoreErrorClass};
use copy::{CopyError, ErrorClass, FsError};
use web::client::ClientError;
use web::tokens::TokenError;

use crate::commands::migrate::MigrateError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::plan::shown;
use crate::serve::StartError;

/// Why the command cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot open SOURCE `{}`", shown(.path))]
    OpenSource {
        path: PathBuf,
        #[source]
        source: FsError,
    },
    #[error("cannot open PATH `{}`", shown(.path))]
    OpenPath {
        path: PathBuf,
        #[source]
        source: FsError,
    },
    #[error("cannot open DEST `{}`", shown(.path))]
    OpenDest {
        path: PathBuf,
        #[source]
        source: FsError,
    },
    #[error("cannot use `{}` as a further mount of DEST", shown(.path))]
    Lane {
        path: PathBuf,
        #[source]
        source: Box<CopyError>,
    },
    #[error("the {what} `{}` lies inside {tree}", shown(.path))]
    InsideTree { what: &'static str, path: PathBuf, tree: &'static str },
    #[error("DEST `{}` lies inside SOURCE", shown(.path))]
    DestInsideSource { path: PathBuf },
    #[error("cannot make the state directory `{}`", shown(.path))]
    MakeState {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {attempt} the report `{}`", shown(.path))]
    Report {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot write the manual pages to `{}`", shown(.path))]
    Man {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot read `{}`", shown(.path))]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is not the specification of a job", shown(.path))]
    Spec {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the command for the password, `{program}`, failed")]
    PasswordCommand {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot make the directory `{}`", shown(.path))]
    MakeDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the repository `{}` lies inside {tree}", shown(.path))]
    RepositoryInside { path: PathBuf, tree: &'static str },
    #[error("DEST `{}` lies inside the repository", shown(.path))]
    DestInRepository { path: PathBuf },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Engine(#[from] CopyError),
    #[error(transparent)]
    Restic(#[from] RepositoryError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl CliError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::InsideTree { .. }
            | Self::DestInsideSource { .. }
            | Self::RepositoryInside { .. }
            | Self::DestInRepository { .. }
            | Self::Directory(DirectoryError::Id { .. })
            | Self::Spec { .. }
            | Self::Config(_)
            | Self::Engine(CopyError::Pattern { .. }) => Exit::Usage,
            Self::Client(error) => exit_of_client(error),
            Self::Migrate(error) => error.exit(),
            _ => Exit::Failed,
        }
    }

    /// What failed, in one line.
    pub fn headline(&self) -> String {
        match self {
            Self::Engine(CopyError::Preflight(_)) => "the copy cannot be right, so nothing was copied".into(),
            error => error.to_string(),
        }
    }

    /// Why, the nearest cause first.
    pub fn causes(&self) -> Vec<String> {
        if let Self::Engine(CopyError::Preflight(refusals)) = self {
            return refusals.clone();
        }
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(error) = next {
            causes.push(match error.downcast_ref::<FsError>() {
                // "cannot open: ..." adds nothing to a line that says so already.
                Some(error) => error.reason(),
                None => error.to_string(),
            });
            next = error.source();
        }
        causes
    }

    /// What to do, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(_) => "see `manila-data --help`",
            Self::OpenSource { source, .. } => return open_hint(*source, "SOURCE"),
            Self::OpenPath { source, .. } => return open_hint(*source, "PATH"),
            Self::OpenDest { source, .. } if source.class == ErrorClass::NotFound => {
                "DEST is made if it is missing, but not the directories above it: \
                 make them first, or check that the file system is mounted"
            }
            Self::OpenDest { source, .. } => return open_hint(*source, "DEST"),
            Self::Lane { .. } => "each `--dest-lane` is a directory where the share of DEST is mounted once more",
            Self::InsideTree { what: "report", .. } => "write the report to a place outside of both trees",
            Self::InsideTree { .. } => "name another directory with `--state-dir`, or use `--no-state`",
            Self::DestInsideSource { .. } => {
                "a copy into its own source never ends: name a DEST outside of SOURCE, \
                 or copy the directories below SOURCE one by one"
            }
            Self::MakeState { .. } | Self::Engine(CopyError::State { .. }) => {
                "name another directory with `--state-dir`, or use `--no-state` to remember nothing between runs"
            }
            Self::Report { source, .. } => return report_hint(source),
            Self::Engine(error) => return engine_hint(error),
            Self::Man { .. } => "the directory must exist and be writable",
            Self::Config(_) => {
                "`manila-data config show` prints the values in force, docs/configuration.md explains them"
            }
            Self::Client(error) => return error.hint(),
            Self::Token(error) => return token_hint(error),
            Self::Start(error) => return error.hint(),
            Self::Migrate(error) => return error.hint(),
            Self::Spec { .. } => "docs/service.md describes the format; `jobs show JOB --json` shows that of a job",
            Self::Restic(error) => return restic_hint(error),
            Self::Directory(error) => return directory_hint(error),
            Self::RepositoryInside { .. } => {
                "a backup of a repository in itself never ends, and a restore could destroy it: keep the repository \
                 elsewhere, or leave it out with `--exclude`"
            }
            Self::DestInRepository { .. } => "name a DEST outside of the repository",
            Self::PasswordCommand { .. } => "run it by hand: it must print the password, and nothing else",
            Self::MakeDir { .. } => "make the directories above it first, or check that the file system is mounted",
            Self::Output(_) | Self::Signals(_) | Self::Read { .. } | Self::Runtime(_) => return None,
        };
        Some(hint.into())
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn exit_of_client(error: &ClientError) -> Exit {
    match error {
        ClientError::BadAddress { .. } => Exit::Usage,
        ClientError::Unreachable { .. } | ClientError::Lost { .. } => Exit::Unreachable,
        // It is there, but cannot take anything now.
        ClientError::Problem(problem) if problem.status == 503 => Exit::Unreachable,
        ClientError::Problem(problem) if problem.name() == "bad-spec" => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn token_hint(error: &TokenError) -> Option<String> {
    Some(match error {
        TokenError::Read { .. } | TokenError::Write { .. } => {
            "run the command as the service's user, or name another file with `--tokens-file`".into()
        }
        TokenError::NotPrivate { path } => format!("chmod 0600 {}", shown(path)),
        TokenError::NameTaken(name) => format!("choose another name, or remove it first: `token remove {name}`"),
        TokenError::NoSuchToken(_) => "`manila-data token list` shows those there are".into(),
        _ => return None,
    })
}

fn open_hint(error: FsError, name: &str) -> Option<String> {
    Some(match error.class {
        ErrorClass::NotFound => {
            format!("check the spelling of {name}, and whether its file system is mounted")
        }
        ErrorClass::Denied => "run the command as root, or as a user who may read the whole tree".into(),
        // The engine's word for "not a directory": the name stands for another kind of entry.
        ErrorClass::Changed => format!("{name} must be a directory; what is in it is copied, not the directory itself"),
        ErrorClass::ReadOnly => "the file system is mounted read-only: mount it read-write".into(),
        ErrorClass::NoSpace => "make room on the file system, or raise the quota".into(),
        ErrorClass::Transient | ErrorClass::Io => {
            "the storage does not answer as it should: look at the mount and at the kernel's log".into()
        }
        _ => return None,
    })
}

fn report_hint(error: &io::Error) -> Option<String> {
    Some(match error.kind() {
        io::ErrorKind::NotFound => "the directory of the report must exist".into(),
        io::ErrorKind::PermissionDenied => "write the report to a directory that you may write to".into(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or write only what changed: `--report-entries changes`".into()
        }
        io::ErrorKind::InvalidInput => "name a regular file; for a stream use `--json`".into(),
        _ => return None,
    })
}

fn restic_hint(error: &RepositoryError) -> Option<String> {
    let hint = match error {
        RepositoryError::NoRepository { .. } => {
            "`backup create --init` makes a repository; one of plain directories needs `--format directory`"
        }
        RepositoryError::WrongPassword { .. } => "look at the file or command that the password comes from",
        RepositoryError::NoSnapshot { .. } | RepositoryError::AmbiguousSnapshot { .. } => {
            "`manila-data backup list` shows the backups that there are"
        }
        RepositoryError::Damaged { .. } => "`manila-data backup check` names everything that is damaged",
        RepositoryError::NoSuchPath { .. } => "paths are those below the directory that the backup is of",
        RepositoryError::Source(CopyError::OpenSource(error)) => return open_hint(*error, "PATH"),
        RepositoryError::Store(error) => match error.class {
            StoreErrorClass::NotFound => "check the spelling of the repository, and whether its file system is mounted",
            StoreErrorClass::Denied => "check the rights, or the user and key that the storage is to be reached with",
            StoreErrorClass::NoSpace => "make room; what is in the repository already is sound",
            StoreErrorClass::Transient => "the storage does not answer as it should: try again when it does",
            _ => return None,
        },
        RepositoryError::Panicked => {
            "this is a defect of manila-data: please report it with the lines above; the repository is sound"
        }
        _ => return None,
    };
    Some(hint.into())
}

fn directory_hint(error: &DirectoryError) -> Option<String> {
    Some(match error {
        DirectoryError::NotFound(_) => "`manila-data backup list` shows the backups that there are".into(),
        DirectoryError::Open { .. } => "check the spelling of the repository, and whether its file system is mounted; \
             `backup create --init` makes its directory"
            .into(),
        DirectoryError::Copy(error) => return engine_hint(error),
        _ => return None,
    })
}

fn engine_hint(error: &CopyError) -> Option<String> {
    let hint = match error {
        CopyError::OpenSource(error) => return open_hint(*error, "SOURCE"),
        CopyError::OpenDest(error) => return open_hint(*error, "DEST"),
        CopyError::Busy { .. } => "wait until the other copy has ended, or stop it; two would undo each other's work",
        CopyError::Panicked => {
            "this is a defect of manila-data: please report it with the lines above; \
             nothing that was copied is lost, and a further run goes on from here"
        }
        CopyError::Thread(_) => "lower `--workers`, or raise the limit on processes (`ulimit -u`)",
        CopyError::Pattern { .. } => "patterns are globs: `*`, `**`, `?`, `[abc]`, `{a,b}`; `\\` takes away a meaning",
        _ => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use copy::FsOp;

    use super::*;

    fn fs_error(class: ErrorClass, errno: i32) -> FsError {
        FsError { op: FsOp::Open, class, errno }
    }

    #[test]
    fn an_error_has_a_headline_causes_and_a_hint() {
        let error = CliError::OpenSource { path: "/no\n".into(), source: fs_error(ErrorClass::NotFound, 2) };
        assert_eq!(error.headline(), "cannot open SOURCE `/no\\x0a`");
        assert_eq!(error.causes(), ["no such file or directory"]);
        assert!(error.hint().is_some_and(|hint| hint.contains("spelling") && hint.contains("mounted")));
        assert_eq!(error.exit(), Exit::Failed);
    }

    #[test]
    fn each_common_error_says_what_to_do() {
        let check = |error: CliError, words: &str| {
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(words), "{error:?}: {hint}");
        };
        let open = |class, errno| CliError::OpenDest { path: "d".into(), source: fs_error(class, errno) };
        let io = |kind| CliError::Report { attempt: "write", path: "r".into(), source: io::Error::from(kind) };
        check(open(ErrorClass::NotFound, 2), "not the directories above it");
        check(open(ErrorClass::Denied, 13), "as root");
        check(open(ErrorClass::Changed, 20), "must be a directory");
        check(open(ErrorClass::ReadOnly, 30), "read-only");
        check(CopyError::Busy { pid: "7".into() }.into(), "wait");
        check(CopyError::State { what: "x".into(), source: None }.into(), "--no-state");
        check(CliError::MakeState { path: "s".into(), source: io::ErrorKind::PermissionDenied.into() }, "--state-dir");
        check(io(io::ErrorKind::NotFound), "must exist");
        check(io(io::ErrorKind::StorageFull), "changes");
        let state = CliError::InsideTree { what: "state directory", path: "s".into(), tree: "DEST" };
        check(state, "--state-dir");
    }

    #[test]
    fn refusals_are_listed_one_by_one() {
        let error = CliError::from(CopyError::Preflight(vec!["no space".into(), "no names".into()]));
        assert_eq!(error.causes(), ["no space", "no names"]);
        assert!(!error.headline().contains("no space"));
        assert_eq!(error.exit(), Exit::Failed);
    }
}

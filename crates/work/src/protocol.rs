//! What a worker's processes say to each other: orders down, tidings up, one JSON object a line, with a version.
//!
//! Secrets travel in the first order to the keeper alone ([`WorkDocument`]), those of repositories on to the mover;
//! nothing that goes up has any.

use std::io::{BufRead, Read as _, Write};
use std::path::PathBuf;

use job::documents::{Progress, Summary};
use job::{Control, Failure, Generation, JobId, JobSpec, PassKind, Secrets, StopReason, WorkOrder, WorkResult};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mount::MountSettings;
use crate::sandbox::SandboxMode;

pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// Specifications may name thousands of patterns, summaries thousands of faults; both stay far below.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 20;

/// Down the pipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first one to the keeper.
    Work(Box<WorkDocument>),
    /// The first one to the mover.
    Move(Box<MoveDocument>),
    /// The last word holds.
    Control(ControlDocument),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkDocument {
    pub(crate) pass: PassDocument,
    pub(crate) secrets: Secrets,
    pub(crate) mount: MountSettings,
    pub(crate) sandbox: SandboxMode,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MoveDocument {
    pub(crate) pass: PassDocument,
    /// Of repositories alone.
    pub(crate) secrets: Secrets,
    pub(crate) source: PathBuf,
    pub(crate) dest: PathBuf,
    pub(crate) sandbox: SandboxMode,
}

/// A [`WorkOrder`] without its secrets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PassDocument {
    job: JobId,
    generation: Generation,
    pass: u32,
    pass_kind: PassKind,
    spec: JobSpec,
    workspace: PathBuf,
    state_dir: PathBuf,
    report_dir: PathBuf,
    retry_report_dir: Option<PathBuf>,
}

impl From<&WorkOrder> for PassDocument {
    fn from(order: &WorkOrder) -> Self {
        Self {
            job: order.job,
            generation: order.generation,
            pass: order.pass,
            pass_kind: order.pass_kind,
            spec: JobSpec::clone(&order.spec),
            workspace: order.workspace.clone(),
            state_dir: order.state_dir.clone(),
            report_dir: order.report_dir.clone(),
            retry_report_dir: order.retry_report_dir.clone(),
        }
    }
}

impl PassDocument {
    pub(crate) fn into_order(self, secrets: &Secrets) -> WorkOrder {
        WorkOrder {
            job: self.job,
            generation: self.generation,
            pass: self.pass,
            pass_kind: self.pass_kind,
            spec: self.spec.with_secrets(secrets).into(),
            workspace: self.workspace,
            state_dir: self.state_dir,
            report_dir: self.report_dir,
            retry_report_dir: self.retry_report_dir,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControlDocument {
    pub(crate) stop: Option<StopReason>,
    pub(crate) bandwidth_bytes_per_second: Option<u64>,
    pub(crate) operations_per_second: Option<u64>,
}

impl From<&Control> for ControlDocument {
    fn from(control: &Control) -> Self {
        Self {
            stop: control.stop,
            bandwidth_bytes_per_second: control.bandwidth_bytes_per_second,
            operations_per_second: control.operations_per_second,
        }
    }
}

impl From<ControlDocument> for Control {
    fn from(document: ControlDocument) -> Self {
        let ControlDocument { stop, bandwidth_bytes_per_second, operations_per_second } = document;
        Self { stop, bandwidth_bytes_per_second, operations_per_second }
    }
}

/// Up the pipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(crate) enum Told {
    Mounted,
    Progress {
        progress: Box<Progress>,
    },
    Warning {
        text: String,
    },
    /// What this machine lacks, rather than this job: worth saying once.
    Notice {
        text: String,
    },
    Summary {
        summary: Box<Summary>,
    },
    /// The last word, as are those below.
    Done {
        result: WorkResult,
    },
    Failed {
        failure: Failure,
    },
    /// The mover died without a last word.
    Lost {
        text: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("a line of the worker's pipe is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the worker's pipe speaks version {0}, not {PROTOCOL_VERSION}")]
    Version(u32),
    #[error("a line of the worker's pipe cannot be understood")]
    NotUnderstood(#[source] serde_json::Error),
    #[error("cannot use the worker's pipe")]
    Pipe(#[source] std::io::Error),
}

/// The line, with its end.
pub(crate) fn encode(body: &impl Serialize) -> Result<Vec<u8>, ProtocolError> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        v: u32,
        #[serde(flatten)]
        body: &'a T,
    }
    let mut line = serde_json::to_vec(&Envelope { v: PROTOCOL_VERSION, body }).map_err(ProtocolError::NotUnderstood)?;
    line.push(b'\n');
    if line.len() > LINE_BYTES_MAX { Err(ProtocolError::TooLong) } else { Ok(line) }
}

/// What a line says. The version is looked at first: what else another version says may mean anything.
pub(crate) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, ProtocolError> {
    #[derive(Deserialize)]
    struct Envelope {
        v: u32,
    }
    let Envelope { v } = serde_json::from_slice(line).map_err(ProtocolError::NotUnderstood)?;
    if v != PROTOCOL_VERSION {
        return Err(ProtocolError::Version(v));
    }
    serde_json::from_slice(line).map_err(ProtocolError::NotUnderstood)
}

/// The next one; `None` at the end. A last line without its end was cut off by the death of its writer.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, ProtocolError> {
    let mut line = Vec::new();
    from.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(ProtocolError::Pipe)?;
    match line.last() {
        Some(b'\n') => decode(&line).map(Some),
        Some(_) if line.len() == LINE_BYTES_MAX => Err(ProtocolError::TooLong),
        _ => Ok(None),
    }
}

pub(crate) fn write(to: &mut impl Write, body: &impl Serialize) -> Result<(), ProtocolError> {
    to.write_all(&encode(body)?).and_then(|()| to.flush()).map_err(ProtocolError::Pipe)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use job::{Endpoint, Kind};

    use super::*;

    fn order(options: &[&str]) -> WorkOrder {
        let dest = Endpoint::Mount {
            fs_type: "cifs".into(),
            source: "//host/share".into(),
            options: options.iter().map(|text| job::Sensitive::new(*text)).collect(),
            subdir: None,
        };
        let spec = JobSpec::new(Kind::Copy, Endpoint::Directory { path: "/srv".into() }, dest);
        WorkOrder {
            job: JobId::from_u128(7),
            generation: Generation(3),
            pass: 2,
            pass_kind: PassKind::Single,
            spec: spec.into(),
            workspace: "/state/workspace/7".into(),
            state_dir: "/state/jobs/7/engine".into(),
            report_dir: "/state/jobs/7/report/2".into(),
            retry_report_dir: None,
        }
    }

    #[test]
    fn an_order_arrives_with_its_secrets_and_shows_none_beside_them() {
        let order = order(&["user=a", "password=geheim"]);
        let pass = PassDocument::from(&order);
        assert!(!serde_json::to_string(&pass).expect("encodes").contains("geheim"));
        let secrets = JobSpec::clone(&order.spec).secrets();
        let line = encode(&Order::Work(Box::new(WorkDocument {
            pass,
            secrets,
            mount: MountSettings::default(),
            sandbox: SandboxMode::default(),
        })))
        .expect("encodes");
        assert!(line.starts_with(br#"{"v":1,"order":"work","#), "{}", line.escape_ascii());
        let Ok(Some(Order::Work(document))) = read(&mut &line[..]) else { panic!("no order") };
        let arrived = document.pass.into_order(&document.secrets);
        assert_eq!(arrived.spec, order.spec);
        assert_eq!((arrived.job, arrived.pass, &*arrived.workspace), (order.job, 2, Path::new("/state/workspace/7")));
    }

    #[test]
    fn another_version_is_refused_whatever_else_it_says() {
        let error = decode::<Told>(br#"{"v":2,"told":"sung"}"#).expect_err("another version");
        assert!(matches!(error, ProtocolError::Version(2)), "{error}");
    }

    #[test]
    fn a_line_that_was_cut_off_is_the_end_and_an_endless_one_an_error() {
        assert!(matches!(read::<Told>(&mut &b"{\"v\":1,\"told\":\"mou"[..]), Ok(None)));
        let mut endless = std::io::BufReader::new(std::io::repeat(b' '));
        assert!(matches!(read::<Told>(&mut endless), Err(ProtocolError::TooLong)));
    }

    #[test]
    fn what_is_told_can_be_told_in_a_row() {
        let mut lines = encode(&Told::Mounted).expect("encodes");
        lines.extend(encode(&Told::Warning { text: "a\nb".into() }).expect("encodes"));
        let mut lines = &lines[..];
        assert!(matches!(read(&mut lines), Ok(Some(Told::Mounted))));
        assert!(matches!(read(&mut lines), Ok(Some(Told::Warning { text })) if text == "a\nb"));
        assert!(matches!(read::<Told>(&mut lines), Ok(None)));
    }
}

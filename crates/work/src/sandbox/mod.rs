//! What the mover gives up before it copies. Each layer stands for itself:
//!
//! - `view`: a root directory in which nothing is but the two trees and what the mover writes for itself;
//! - `files`: Landlock, which lets it read the source, change the destination, and open nothing else;
//! - `rights`: no new privileges, and of root's capabilities those that copying needs;
//! - `calls`: a list of the system calls that the engine makes.
//!
//! A repository that is reached over a network opens them as far as `network` says.
//!
//! The first is for what Landlock does not judge: owners, modes, times and extended attributes of files that a path
//! leads to.

mod calls;
mod files;
mod network;
mod rights;
mod view;

use std::path::PathBuf;

use job::{Failure, FailureCode, Step, WorkOrder};
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::report::make_private_dir;
use crate::run::Trees;
use crate::shown;

/// What becomes of a job where the kernel lacks a part of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// It runs with the parts that there are, and the lack is told.
    #[default]
    Auto,
    /// It fails.
    Required,
    /// It runs without any.
    Off,
}

/// What the sandbox leaves open.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    pub mode: SandboxMode,
    pub source: PathBuf,
    pub dest: PathBuf,
    /// Otherwise the destination is only read, as the source is.
    pub dest_is_written: bool,
    /// Where the engine remembers. Made where it is missing, as the next one is.
    pub state_dir: PathBuf,
    pub report_dir: PathBuf,
    /// Only read.
    pub retry_report_dir: Option<PathBuf>,
    /// The port of the server that holds the repository, for a job that has one over a network. No other can be reached.
    pub server_port: Option<u16>,
    /// All of them; a test takes one away to show what it is for.
    pub layers: Vec<Layer>,
}

/// A part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    View,
    Files,
    Rights,
    Calls,
}

impl Layer {
    pub const ALL: [Self; 4] = [Self::View, Self::Files, Self::Rights, Self::Calls];
}

impl SandboxSpec {
    /// What one pass needs.
    pub fn of(order: &WorkOrder, trees: &Trees, mode: SandboxMode) -> Self {
        Self {
            mode,
            source: trees.source.clone(),
            dest: trees.dest.clone(),
            dest_is_written: order.spec.kind.writes() && !order.spec.options.dry_run,
            state_dir: order.state_dir.clone(),
            report_dir: order.report_dir.clone(),
            retry_report_dir: order.retry_report_dir.clone(),
            server_port: network::server_port(&order.spec),
            layers: Layer::ALL.to_vec(),
        }
    }

    fn has(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }
}

/// Why a layer does not stand.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The kernel has not what it takes, or does not allow it here.
    Missing(String),
    Failed(String),
}

/// Enters the sandbox, for good. The caller has one thread; those that it starts later are in it, too. Answers what the
/// kernel lacks.
pub fn enter(spec: &SandboxSpec) -> Result<Vec<String>, Failure> {
    for dir in [&spec.state_dir, &spec.report_dir] {
        make_private_dir(dir).map_err(|error| failed(format!("cannot make `{}`: {error}", shown(dir))))?;
    }
    if spec.mode == SandboxMode::Off {
        return Ok(Vec::new());
    }
    if spec.dest_is_written {
        // The engine would make it, and cannot any more. Where it cannot be made, that is told below.
        let _ = rustix::fs::mkdirat(CWD, &spec.dest, Mode::RWXU);
    }
    for tree in [&spec.source, &spec.dest] {
        rustix::fs::openat(CWD, tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(
            |errno| {
                Failure::new(Step::Copy, FailureCode::EngineFailed, format!("cannot open `{}`: {errno}", shown(tree)))
            },
        )?;
    }
    let mut lacks = Vec::new();
    let mut take = |layer: Layer, answer: Result<(), Trouble>| match answer {
        Ok(()) => Ok(()),
        Err(Trouble::Missing(text)) if spec.mode == SandboxMode::Required => {
            Err(Failure::new(Step::Sandbox, FailureCode::SandboxMissing, text))
        }
        Err(Trouble::Missing(text)) => {
            lacks.push(text);
            Ok(())
        }
        Err(Trouble::Failed(text)) => Err(failed(format!("{text} ({layer:?})"))),
    };
    // Changes of mounts end with Landlock, and what either of them needs ends with the capabilities.
    if spec.has(Layer::View) {
        take(Layer::View, view::narrow(spec))?;
    }
    if spec.has(Layer::Files) {
        take(Layer::Files, files::restrict(spec))?;
    }
    let calls = spec.has(Layer::Calls) && calls::are_filtered_here();
    if spec.has(Layer::Rights) {
        take(Layer::Rights, rights::cut(spec.dest_is_written, calls))?;
    }
    if spec.has(Layer::Calls) {
        take(Layer::Calls, calls::filter(spec.server_port.is_some()))?;
    }
    Ok(lacks)
}

fn failed(message: String) -> Failure {
    Failure::new(Step::Sandbox, FailureCode::Internal, message)
}

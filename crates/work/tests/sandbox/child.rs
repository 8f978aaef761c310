//! A process that enters the sandbox and does one thing in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use work::sandbox::{Layer, SandboxMode, SandboxSpec, enter};

use crate::{attacks, copying, lacking};

/// What the child is to do, in its environment.
const TASK: &str = "MANILA_DATA_SANDBOX_TASK";
/// What it answers, as a line.
const ANSWER: &str = "ANSWER ";
const NOBODY: u32 = 65534;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) mode: SandboxMode,
    pub(crate) layers: Vec<String>,
    /// Directory that holds `source`, `dest`, `state`, `report` and `outside`.
    pub(crate) place: PathBuf,
    pub(crate) what: What,
    pub(crate) user: User,
    pub(crate) server_port: Option<u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Attack {
        name: String,
        victim: attacks::Victim,
    },
    /// Tells what the kernel says of the process, and of a thread that it starts.
    Status,
    Copy {
        spec: String,
        is_retry: bool,
    },
    WithoutLandlock,
    /// Enters with other trees than the usual ones.
    Trees {
        source: PathBuf,
        dest: PathBuf,
    },
}

impl Task {
    pub(crate) fn new(place: &Path, layers: &[Layer], what: What, user: User) -> Self {
        let layers = layers.iter().map(|layer| format!("{layer:?}")).collect();
        Self { mode: SandboxMode::Required, layers, place: place.into(), what, user, server_port: None }
    }

    pub(crate) fn sandbox(&self) -> SandboxSpec {
        let at = |name: &str| self.place.join(name);
        SandboxSpec {
            mode: self.mode,
            source: at("source"),
            dest: at("dest"),
            dest_is_written: true,
            state_dir: at("state"),
            report_dir: at("report"),
            retry_report_dir: None,
            server_port: self.server_port,
            layers: Layer::ALL.into_iter().filter(|layer| self.layers.contains(&format!("{layer:?}"))).collect(),
        }
    }
}

/// Who the child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum User {
    Same,
    Nobody,
}

/// Lets a child do the task, and gives its answer.
#[track_caller]
pub(crate) fn run(task: &Task) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env(TASK, serde_json::to_string(task).unwrap()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find_map(|line| line.split_once(ANSWER).map(|(_, answer)| answer.to_owned()));
    answer.unwrap_or_else(|| {
        panic!("no answer to {task:?}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

/// Gives a directory with everything in it to the user who is nobody.
pub(crate) fn give_to_nobody(path: &Path) {
    assert!(Command::new("chown").args(["-hR", &format!("{NOBODY}:{NOBODY}")]).arg(path).status().unwrap().success());
}

pub(crate) fn answer(text: &str) {
    println!("{ANSWER}{text}");
}

/// What this process is to do, where it is a child.
pub(crate) fn task() -> Option<Task> {
    std::env::var_os(TASK).map(|task| serde_json::from_str(task.to_str().unwrap()).unwrap())
}

/// Becomes somebody without rights, who may still look at himself.
fn become_nobody() {
    let (uid, gid) = (rustix::fs::Uid::from_raw(NOBODY), rustix::fs::Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
}

pub(crate) fn perform(task: &Task) {
    if task.user == User::Nobody {
        become_nobody();
    }
    match &task.what {
        What::Attack { name, victim } => {
            let attack = attacks::named(name);
            let prepared = (attack.prepare)(&task.place, victim);
            let lacks = enter(&task.sandbox()).unwrap();
            assert_eq!(lacks, Vec::<String>::new());
            match (attack.attempt)(&task.place, victim, prepared) {
                Ok(()) => answer("succeeded"),
                Err(error) => answer(&format!("failed: {error}")),
            }
        }
        What::Status => {
            enter(&task.sandbox()).unwrap();
            let read = |path| std::fs::read_to_string(path).unwrap();
            let own = read("/proc/self/status");
            let of_thread = std::thread::spawn(move || read("/proc/thread-self/status")).join().unwrap();
            answer(&serde_json::to_string(&[own, of_thread]).unwrap());
        }
        What::Copy { spec, is_retry } => copying::copy(task, spec, *is_retry),
        What::WithoutLandlock => lacking::enter_without_landlock(task),
        What::Trees { source, dest } => lacking::enter_with_trees(task, source, dest),
    }
}

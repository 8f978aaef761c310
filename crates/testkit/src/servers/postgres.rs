//! A PostgreSQL of its own: data in a temporary directory, one user, no disk waits.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::mariadb::{DatabaseTls, run_client};
use super::{Server, find_program, free_ports};
use crate::disk::{SkipReason, TempDir};

const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The user of all connections, with every right, and its password.
const USER: &str = "manila";
const PASSWORD: &str = "se:cr/et@1";
/// The same for a URL.
const PASSWORD_IN_URL: &str = "se%3Acr%2Fet%401";

/// Whom it runs as where we are root, which it refuses to be. Every system has them.
const NOBODY: u32 = 65_534;

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    has_tls: bool,
    programs: PathBuf,
    dir: TempDir,
}

impl Postgres {
    /// Makes a data directory and starts the server on it; with these certificates, it offers TLS.
    pub fn start(tls: Option<&DatabaseTls>) -> Result<Self, SkipReason> {
        let programs = programs()?;
        find_program(&["/usr/bin/setpriv"])?;
        let dir = TempDir::new();
        let [port] = free_ports();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            own(&path);
        };
        own(dir.path());
        write("password", PASSWORD);
        let mut command = unprivileged(&programs.join("initdb"));
        command.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]);
        command.arg(format!("--username={USER}"));
        command.arg(format!("--pwfile={}", dir.path().join("password").display()));
        command.arg(format!("--pgdata={}", dir.path().join("data").display()));
        let output = command.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        if let Some(tls) = tls {
            write("cert.pem", &tls.cert_pem);
            write("key.pem", &tls.key_pem);
        }
        let has_tls = tls.is_some();
        let server = spawn(&programs, dir.path(), port, has_tls);
        let mut this = Self { server, port, has_tls, programs, dir };
        this.wait_until_ready();
        Ok(this)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands in `[database] connection` for a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements through the command line client; panics when one fails.
    #[track_caller]
    pub fn execute(&self, database: &str, sql: &str) -> String {
        let mut command = self.psql(database);
        command.args(["--set=ON_ERROR_STOP=1", "--file=-"]);
        run_client(command, sql)
    }

    /// Ends it without a chance to notice; what was committed is there after [`Postgres::restart`].
    pub fn kill(&mut self) {
        // Each of its processes leads a group of its own, and notices the end of the first only when it wakes up.
        let backends = self.backends();
        self.server.kill();
        signal_all(&backends, Signal::KILL);
    }

    /// Ends it where it still runs, and starts it again at the same place.
    pub fn restart(&mut self) {
        // SIGTERM would wait for its clients; tests want to see what they say to this.
        self.signal_first(Signal::INT);
        self.server.stop(STOP_LIMIT);
        self.server = spawn(&self.programs, self.dir.path(), self.port, self.has_tls);
        self.wait_until_ready();
    }

    /// It keeps its connections, and answers nothing: neither the server nor any of the processes that serve one each.
    pub fn freeze(&self) {
        self.server.freeze();
        signal_all(&self.backends(), Signal::STOP);
    }

    pub fn thaw(&self) {
        signal_all(&self.backends(), Signal::CONT);
        signal_all(&[Pid::from_raw(self.server.pid() as i32).expect("a child has a process id")], Signal::CONT);
    }

    /// To the one process that starts all others.
    fn signal_first(&mut self, signal: Signal) {
        if self.server.is_running() {
            let pid = Pid::from_raw(self.server.pid() as i32).expect("a child has a process id");
            signal_all(&[pid], signal);
        }
    }

    fn backends(&self) -> Vec<Pid> {
        let children = format!("/proc/{0}/task/{0}/children", self.server.pid());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        command.arg("--host=127.0.0.1").arg(format!("--port={}", self.port));
        command.arg(format!("--username={USER}")).arg(format!("--dbname={database}"));
        command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable");
        command
    }

    fn wait_until_ready(&mut self) {
        let (programs, port) = (self.programs.clone(), self.port);
        self.server.wait_until("ready", START_LIMIT, || {
            let mut command = Command::new(programs.join("pg_isready"));
            command.args(["--quiet", "--host=127.0.0.1"]).arg(format!("--port={port}"));
            command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A shared memory segment of the system outlives it when it is killed.
        self.thaw();
        self.signal_first(Signal::QUIT);
        self.server.stop(STOP_LIMIT);
    }
}

fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // Some have ended meanwhile.
        let _ = rustix::process::kill_process(*pid, signal);
    }
}

fn spawn(programs: &Path, dir: &Path, port: u16, has_tls: bool) -> Server {
    let mut command = unprivileged(&programs.join("postgres"));
    let mut setting = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    setting("port", &port.to_string());
    setting("listen_addresses", "127.0.0.1");
    setting("unix_socket_directories", "");
    // Tests end long before power fails.
    setting("fsync", "off");
    setting("synchronous_commit", "off");
    setting("full_page_writes", "off");
    setting("shared_buffers", "32MB");
    // Files of its own directory, which go away with it however it ends.
    setting("dynamic_shared_memory_type", "mmap");
    if has_tls {
        setting("ssl", "on");
        setting("ssl_cert_file", &dir.join("cert.pem").display().to_string());
        setting("ssl_key_file", &dir.join("key.pem").display().to_string());
    }
    command.arg("-D").arg(dir.join("data")).current_dir(dir);
    Server::spawn("postgres", command, dir)
}

/// The newest that is installed; Debian keeps each release in a directory of its own, beside the search path.
fn programs() -> Result<PathBuf, SkipReason> {
    let missing = || SkipReason("no /usr/lib/postgresql/*/bin/postgres is installed".into());
    let releases = std::fs::read_dir("/usr/lib/postgresql").map_err(|_| missing())?;
    let found = releases.filter_map(Result::ok).map(|entry| entry.path().join("bin"));
    let release = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    found.filter(|path| path.join("postgres").exists()).max_by_key(release).ok_or_else(missing)
}

/// A command of a user without privileges: as root it refuses to run.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}")).arg("--clear-groups").arg(program);
    command
}

fn own(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

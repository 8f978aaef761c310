//! A MariaDB of its own: data in a temporary directory, one user, no disk waits.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Server, find_program, free_ports};
use crate::disk::{SkipReason, TempDir};

const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The user of all connections by TCP, with every right, and its password.
const USER: &str = "manila";
const PASSWORD: &str = "se:cr/et@1";
/// The same for a URL.
const PASSWORD_IN_URL: &str = "se%3Acr%2Fet%401";

/// Files of a database server that speaks TLS.
#[derive(Clone, Debug)]
pub struct DatabaseTls {
    pub cert_pem: String,
    pub key_pem: String,
}

/// A running MariaDB.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
    port: u16,
    has_tls: bool,
    dir: TempDir,
}

impl MariaDb {
    /// Makes a data directory and starts the server on it; with these certificates, it offers TLS.
    pub fn start(tls: Option<&DatabaseTls>) -> Result<Self, SkipReason> {
        let install = find_program(&["/usr/bin/mariadb-install-db"])?;
        find_program(&["/usr/sbin/mariadbd"])?;
        find_program(&["/usr/bin/mariadb"])?;
        let dir = TempDir::new();
        let [port] = free_ports();
        let mut command = Command::new(install);
        command.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        command.arg(format!("--datadir={}", dir.path().join("data").display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
        if let Some(tls) = tls {
            std::fs::write(dir.path().join("cert.pem"), &tls.cert_pem).unwrap();
            std::fs::write(dir.path().join("key.pem"), &tls.key_pem).unwrap();
        }
        let has_tls = tls.is_some();
        let server = spawn(dir.path(), port, has_tls);
        let mut this = Self { server, port, has_tls, dir };
        this.wait_until_ready();
        this.execute(&format!(
            "CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;"
        ));
        Ok(this)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// What stands in `[database] connection` for a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("mysql+pymysql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements as root through the command line client; panics when one fails.
    #[track_caller]
    pub fn execute(&self, sql: &str) -> String {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        command.arg(format!("--socket={}", self.socket().display()));
        run_client(command, sql)
    }

    /// Ends it without a chance to notice; what was committed is there after [`MariaDb::restart`].
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Ends it in good order where it still runs, and starts it again at the same place.
    pub fn restart(&mut self) {
        self.server.stop(STOP_LIMIT);
        self.server = spawn(self.dir.path(), self.port, self.has_tls);
        self.wait_until_ready();
    }

    /// It keeps its connections, and answers nothing.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    pub fn thaw(&self) {
        self.server.signal(Signal::CONT);
    }

    fn wait_until_ready(&mut self) {
        let socket = self.socket();
        self.server.wait_until("ready", START_LIMIT, || {
            let mut command = Command::new("mariadb");
            command.args(["--no-defaults", "--user=root", "--execute=SELECT 1"]);
            command.arg(format!("--socket={}", socket.display()));
            command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        });
    }
}

fn spawn(dir: &Path, port: u16, has_tls: bool) -> Server {
    let mut command = Command::new("/usr/sbin/mariadbd");
    let path = |name: &str| dir.join(name).display().to_string();
    command.args([
        "--no-defaults",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--performance-schema=OFF",
        // Tests end long before power fails.
        "--innodb-flush-method=nosync",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=OFF",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=16M",
        "--sync-frm=OFF",
    ]);
    command.arg(format!("--port={port}"));
    command.arg(format!("--datadir={}", path("data")));
    command.arg(format!("--socket={}", path("sock")));
    command.arg(format!("--pid-file={}", path("pid")));
    command.arg(format!("--tmpdir={}", dir.display()));
    if has_tls {
        command.arg(format!("--ssl-cert={}", path("cert.pem"))).arg(format!("--ssl-key={}", path("key.pem")));
    }
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    Server::spawn("mariadb", command, dir)
}

/// Gives statements to a command line client, and its output back.
#[track_caller]
pub(super) fn run_client(mut command: Command, sql: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().expect("it is piped");
    let sql = sql.to_owned();
    // Beside the reading: a client that prints while it reads would wait for us, and we for it.
    let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", command.get_program().display());
    written.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

//! A RabbitMQ broker of its own for a test: one node, on free ports, in a temporary directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Server, find_program, free_ports};
use crate::disk::{SkipReason, TempDir};

/// The scripts as they are: those in the path change the user and look for a service.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// How long a broker may take to start. It takes five seconds on an idle machine.
const START: Duration = Duration::from_mins(3);

/// Files of a broker that speaks TLS.
#[derive(Clone, Debug)]
pub struct BrokerTls {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    /// Only clients with a certificate of the same authority are let in.
    pub wants_client_certificate: bool,
}

/// How a broker is set up. `Default` is a broker without TLS.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    pub tls: Option<BrokerTls>,
    pub plugins: &'static [&'static str],
    /// Further lines of `rabbitmq.conf`.
    pub config: String,
}

/// A running broker. User `guest` with password `guest` may do everything.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order: the node, then who knows its address, then their files.
    node: Server,
    _names: Server,
    dir: TempDir,
    env: Vec<(&'static str, String)>,
    port: u16,
    tls_port: Option<u16>,
}

impl RabbitMq {
    /// Starts a broker and waits until it takes connections.
    #[track_caller]
    pub fn start(options: &BrokerOptions) -> Result<Self, SkipReason> {
        let names_program = find_program(&["/usr/bin/epmd"])?;
        find_program(&["/usr/lib/rabbitmq/bin/rabbitmq-server"])?;
        let dir = TempDir::new();
        let [port, dist_port, names_port, tls_port] = free_ports();
        let tls_port = options.tls.as_ref().map(|_| tls_port);
        write_config(&dir, port, tls_port, options);
        let env = environment(dir.path(), dist_port, names_port);
        let mut names = Command::new(names_program);
        names.args(["-address", "127.0.0.1", "-port", &names_port.to_string()]);
        let names = Server::spawn("epmd", with_env(names, &env), dir.path());
        let node = Server::spawn("rabbitmq", server_command(&env), dir.path());
        let mut broker = Self { node, _names: names, dir, env, port, tls_port };
        broker.wait_until_up();
        Ok(broker)
    }

    /// Kills the broker, which loses what only its memory held, and frees its port.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts it again after [`Self::kill`], on the same ports with the same files.
    #[track_caller]
    pub fn restart(&mut self) {
        self.node = Server::spawn("rabbitmq", server_command(&self.env), self.dir.path());
        self.wait_until_up();
    }

    /// Stops all that the broker does until [`Self::thaw`]; its connections stay open.
    pub fn freeze(&self) {
        self.node.freeze();
    }

    pub fn thaw(&self) {
        self.node.signal(Signal::CONT);
    }

    /// Whether it runs, frozen or not.
    pub fn is_running(&mut self) -> bool {
        self.node.is_running()
    }

    /// `rabbitmqctl` with these arguments: what it printed.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        match self.try_ctl(arguments) {
            Ok(output) => output,
            Err(output) => panic!("rabbitmqctl {arguments:?} failed:\n{output}\n{}", self.node.log_tail()),
        }
    }

    /// Rows of a `rabbitmqctl list_…` command as JSON text.
    #[track_caller]
    pub fn list(&self, arguments: &[&str]) -> String {
        self.ctl(&[&["--formatter", "json"], arguments].concat())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Panics for a broker without TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("the broker was started with TLS")
    }

    /// `rabbit://guest:guest@127.0.0.1:…/`
    pub fn url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/", self.port)
    }

    pub fn log_tail(&self) -> String {
        self.node.log_tail()
    }

    fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(Path::new(SCRIPTS).join("rabbitmqctl"));
        command.arg("-q").args(arguments);
        let output = with_env(command, &self.env).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }

    #[track_caller]
    fn wait_until_up(&mut self) {
        let port = self.port;
        // Listeners are the last thing that a node starts, and with TLS the plain one is not the last of them.
        let ports: Vec<u16> = [port].into_iter().chain(self.tls_port).collect();
        let is_up = || ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok());
        self.node.wait_until("taking connections", START, is_up);
    }
}

fn write_config(dir: &TempDir, port: u16, tls_port: Option<u16>, options: &BrokerOptions) {
    let path = |name: &str| dir.path().join(name);
    let mut config = format!(
        "listeners.tcp.default = 127.0.0.1:{port}\nloopback_users = none\nlog.console = true\n\
         log.console.level = info\nvm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.absolute = 50MB\n"
    );
    if let (Some(tls), Some(tls_port)) = (&options.tls, tls_port) {
        let write = |name: &str, text: &str| -> PathBuf {
            std::fs::write(path(name), text).unwrap();
            path(name)
        };
        let ca = write("ca.pem", &tls.ca_pem);
        let cert = write("cert.pem", &tls.cert_pem);
        let key = write("key.pem", &tls.key_pem);
        let verify = if tls.wants_client_certificate { "verify_peer" } else { "verify_none" };
        let tls_lines = format!(
            "listeners.ssl.default = 127.0.0.1:{tls_port}\nssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = {verify}\n\
             ssl_options.fail_if_no_peer_cert = {}\n",
            ca.display(),
            cert.display(),
            key.display(),
            tls.wants_client_certificate
        );
        config += &tls_lines;
    }
    config += &options.config;
    std::fs::write(path("rabbitmq.conf"), config).unwrap();
    std::fs::write(path("enabled_plugins"), format!("[{}].\n", options.plugins.join(","))).unwrap();
    std::fs::write(path("rabbitmq-env.conf"), "\n").unwrap();
    // One cookie for the node and those who command it, in a home of its own.
    std::fs::create_dir(path("data")).unwrap();
}

fn environment(dir: &Path, dist_port: u16, names_port: u16) -> Vec<(&'static str, String)> {
    let path = |name: &str| dir.join(name).display().to_string();
    vec![
        ("HOME", path("")),
        ("RABBITMQ_NODENAME", "rabbit@localhost".into()),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_DIST_PORT", dist_port.to_string()),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        ("RABBITMQ_CONF_ENV_FILE", path("rabbitmq-env.conf")),
        // Two schedulers that do not spin: tests share the machine's cores.
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none".into()),
        ("RABBITMQ_CTL_ERL_ARGS", "+S 1:1".into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("ERL_EPMD_PORT", names_port.to_string()),
        ("LANG", "C.UTF-8".into()),
        ("LC_ALL", "C.UTF-8".into()),
    ]
}

fn server_command(env: &[(&'static str, String)]) -> Command {
    with_env(Command::new(Path::new(SCRIPTS).join("rabbitmq-server")), env)
}

fn with_env(mut command: Command, env: &[(impl AsRef<OsStr>, impl AsRef<OsStr>)]) -> Command {
    command.envs(env.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
    command
}

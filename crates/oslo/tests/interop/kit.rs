//! Pythons with oslo.messaging, brokers, and a server of ours to ask.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oslo::messaging::rabbit::{MessagingOptions, RabbitTransport};
use oslo::messaging::{Arguments, Client, Failure, Handler, HandlerError, Request, RpcVersion, Server, ServerOptions};
use serde_json::{Value, json};
use testkit::disk::SkipReason;
use testkit::servers::rabbitmq::{BrokerOptions, RabbitMq};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

/// Longer than anything takes that works at all, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(400);

/// Ends a test that waits for something that does not come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes far too long")
}

/// The broker of all tests that do it no harm. The test process's watchdog ends it.
pub(crate) fn broker() -> Result<&'static RabbitMq, SkipReason> {
    static BROKER: LazyLock<Result<RabbitMq, SkipReason>> =
        LazyLock::new(|| RabbitMq::start(&BrokerOptions::default()));
    BROKER.as_ref().map_err(Clone::clone)
}

/// A topic that no other test has.
pub(crate) fn topic() -> String {
    format!("topic-{}", &Uuid::new_v4().simple().to_string()[..8])
}

pub(crate) fn transport(url: &str) -> Arc<RabbitTransport> {
    Arc::new(RabbitTransport::new(&MessagingOptions::of_url(url).unwrap(), None).unwrap())
}

pub(crate) fn client(url: &str) -> Client {
    Client::new(transport(url))
}

/// A release of oslo.messaging.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    version: &'static str,
    requirements: &'static str,
    python: &'static LazyLock<Result<PathBuf, SkipReason>>,
}

/// What Manila has today.
pub(crate) const NEWEST: Release = Release {
    version: "18.3.1",
    requirements: include_str!("requirements-18.3.1.txt"),
    python: {
        static PYTHON: LazyLock<Result<PathBuf, SkipReason>> = LazyLock::new(|| NEWEST.install());
        &PYTHON
    },
};

/// What Manila had in the Zed release.
pub(crate) const OLDEST: Release = Release {
    version: "14.2.0",
    requirements: include_str!("requirements-14.2.0.txt"),
    python: {
        static PYTHON: LazyLock<Result<PathBuf, SkipReason>> = LazyLock::new(|| OLDEST.install());
        &PYTHON
    },
};

impl Release {
    /// A process that speaks with a broker by this release.
    pub(crate) fn peer(self, url: &str) -> Result<Peer, SkipReason> {
        Ok(Peer::start(self.python.as_ref().map_err(Clone::clone)?, url))
    }

    /// An environment with exactly what the list says, made once and kept where the compiler puts what it makes.
    fn install(self) -> Result<PathBuf, SkipReason> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oslo-messaging-{}", self.version));
        let (python, stamp) = (dir.join("bin/python"), dir.join("complete.txt"));
        if std::fs::read_to_string(&stamp).is_ok_and(|complete| complete == self.requirements) {
            return Ok(python);
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let list = dir.join("requirements.txt");
        std::fs::write(&list, self.requirements).unwrap();
        run(Command::new(&python)
            .args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--requirement"])
            .arg(&list))?;
        std::fs::write(stamp, self.requirements).unwrap();
        Ok(python)
    }
}

fn run(command: &mut Command) -> Result<(), SkipReason> {
    let reason = |why: String| SkipReason(format!("oslo.messaging cannot be installed: {command:?}: {why}"));
    let output = Command::new(command.get_program()).args(command.get_args()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(reason(String::from_utf8_lossy(&output.stderr).trim().into())),
        Err(error) => Err(reason(error.to_string())),
    }
}

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// `peer.py` at work. It ends when its input does, which is with this process at the latest.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    orders: Mutex<ChildStdin>,
    answers: Answers,
    numbers: AtomicU64,
}

impl Peer {
    fn start(python: &Path, url: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        // Bytecode of Python has no place in the sources, and what is deprecated there is nothing to us.
        let mut child = Command::new(python)
            .args(["-B", "-W", "ignore"])
            .arg(here.join("peer.py"))
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let answers = Answers::default();
        std::thread::spawn({
            let answers = answers.clone();
            move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let answer: Value = serde_json::from_str(&line).expect("a peer answers in JSON");
                    let waiting = answers.lock().unwrap().remove(&answer["id"].as_u64().unwrap());
                    waiting.map(|waiting| waiting.send(answer));
                }
                // Whoever still waits is told so by this.
                answers.lock().unwrap().clear();
            }
        });
        Self { child, orders: Mutex::new(orders), answers, numbers: AtomicU64::new(1) }
    }

    /// Gives an order, whose answer can be awaited at any time.
    pub(crate) fn order(&self, what: &str, mut order: Value) -> impl Future<Output = Value> + Send + 'static {
        let id = self.numbers.fetch_add(1, Ordering::Relaxed);
        order["id"] = id.into();
        order["do"] = what.into();
        let (sender, answer) = oneshot::channel();
        self.answers.lock().unwrap().insert(id, sender);
        writeln!(self.orders.lock().unwrap(), "{order}").unwrap();
        async move { within(answer).await.expect("the peer goes on") }
    }

    /// Gives an order that succeeds.
    pub(crate) async fn does(&self, what: &str, order: Value) -> Value {
        let mut answer = self.order(what, order).await;
        assert!(answer.get("raised").is_none(), "{what}: {answer}");
        answer["returned"].take()
    }

    /// Gives an order that ends with an exception.
    pub(crate) async fn fails(&self, what: &str, order: Value) -> Value {
        let mut answer = self.order(what, order).await;
        assert!(answer.get("raised").is_some(), "{what}: {answer}");
        answer["raised"].take()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every kind of value that JSON knows, and some that are hard to write.
pub(crate) fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-7),
        json!(9_223_372_036_854_775_807_i64),
        json!(18_446_744_073_709_551_615_u64),
        json!(0.1),
        json!(33.333_333_333_333_336),
        json!(1e300),
        json!(-2.5e-7),
        json!(1.0),
        json!(""),
        json!("plain"),
        json!("\u{1F600} 日本 é \u{7f} \u{0} \" \\ / \u{2028}"),
        json!([]),
        json!([1, [2, [3]], {"a": null}]),
        json!({}),
        json!({"z": 1, "a": {"\u{1F600}": [true]}}),
    ]
}

/// Answers what Python asks:
/// - `echo` returns its arguments, `context` the context, `needs` its one argument `what`.
/// - `fail` fails as it is told.
/// - `slow` waits for so many seconds, `wait` until `gate` lets it.
/// - `note` remembers a number.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) noted: Mutex<Vec<u64>>,
    pub(crate) begun: Semaphore,
    pub(crate) gate: Semaphore,
}

impl Shop {
    pub(crate) async fn open(transport: Arc<RabbitTransport>, topic: &str) -> (Server, Arc<Self>) {
        let shop = Arc::new(Self { noted: Mutex::default(), begun: Semaphore::new(0), gate: Semaphore::new(0) });
        let options = ServerOptions { answers_pings: true, ..ServerOptions::default() };
        let server = within(Server::start(transport, topic, "host1", shop.clone(), options)).await.unwrap();
        (server, shop)
    }

    /// Waits until so many different numbers were noted.
    pub(crate) async fn has_noted(&self, count: usize) {
        within(async {
            while self.noted.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

#[async_trait]
impl Handler for Shop {
    fn version(&self) -> RpcVersion {
        RpcVersion::new(1, 1)
    }

    async fn handle(&self, request: Request) -> Result<Value, HandlerError> {
        match request.method.as_str() {
            "echo" => Ok(request.args.into()),
            "context" => Ok(serde_json::to_value(&request.context).unwrap()),
            "needs" => Ok(Arguments::bind("Shop.needs", request.args, &["what"], &[])?.value("what")),
            "fail" => {
                let mut arguments = Arguments::bind("Shop.fail", request.args, &["how"], &[])?;
                Err(match arguments.string("how")?.as_str() {
                    "sold out" => Failure::new("interop_errors", "SoldOut", "Sold out: no “tea” left.")
                        .kwarg("reason", "no “tea” left.")
                        .kwarg("code", 409),
                    "closed" => Failure::new("interop_errors", "Closed", "The shop is closed."),
                    "elsewhere" => Failure::new("somewhere.else", "Odd", "Not to be trusted."),
                    other => Failure::type_error(other),
                })?
            }
            "slow" => {
                tokio::time::sleep(Duration::from_secs(request.args["seconds"].as_u64().unwrap())).await;
                Ok("done".into())
            }
            "wait" => {
                self.begun.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
                Ok("waited".into())
            }
            "note" => {
                self.noted.lock().unwrap().push(request.args["number"].as_u64().unwrap());
                Ok(Value::Null)
            }
            other => Err(Failure::no_such_method(other).into()),
        }
    }
}

//! The TCP door with TLS: who is let in, and certificates that are renewed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use job::Sensitive;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use testkit::disk::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use web::client::{Address, Client, ClientError};
use web::tokens::{self, Scope};
use web::{ServeError, Settings, TcpSettings};

use crate::kit::{Certificates, RunningServer, read_to_end, request_on, soon};

struct Door {
    server: RunningServer,
    settings: Settings,
    certificates: Certificates,
    token: String,
}

impl Door {
    async fn open(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = Arc::new(TempDir::new());
        let certificates = Certificates::new(dir.path());
        let path = dir.path().join("tokens");
        let token = tokens::create(&path, "ci", Scope::Read, None).unwrap();
        let tcp = TcpSettings::new("127.0.0.1:0".parse().unwrap(), Some(certificates.server.clone()), path);
        let mut settings = Settings { tcp: Some(tcp), ..Settings::default() };
        change(&mut settings);
        let server = RunningServer::in_dir(dir, Arc::default(), |used| {
            used.tcp.clone_from(&settings.tcp);
            used.limits = settings.limits.clone();
            settings.socket.clone_from(&used.socket);
        });
        Self { server: server.await, settings, certificates, token }
    }

    fn port(&self) -> u16 {
        self.server.tcp_port.unwrap()
    }

    fn client(&self, token: Option<&str>, ca_file: Option<PathBuf>) -> Client {
        let url = format!("https://localhost:{}", self.port());
        Client::new(&Address::Url { url, token: token.map(Sensitive::secret), ca_file }).unwrap()
    }

    /// The certificate that the server shows.
    async fn shown(&self) -> Vec<u8> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.certificates.authority).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port())).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

#[tokio::test]
async fn a_token_over_tls_lets_in_and_nothing_else_does() {
    let door = Door::open(|_| {}).await;
    let authority = || Some(door.certificates.authority.clone());
    let good = door.client(Some(&door.token), authority());
    assert_eq!(soon("an answer", good.version()).await.unwrap().api, "v1");

    let problem = |result: Result<_, ClientError>| match result {
        Err(ClientError::Problem(problem)) => (problem.status, problem.name().to_owned()),
        other => panic!("{other:?}"),
    };
    let refused = door.client(None, authority()).version().await;
    assert_eq!(problem(refused.map(drop)), (401, "unauthorized".into()));
    let refused = door.client(Some("mdt_guess"), authority()).version().await;
    assert_eq!(problem(refused.map(drop)), (401, "unauthorized".into()));
    let refused = good.cancel(job::JobId::generate()).await;
    assert_eq!(problem(refused.map(drop)), (403, "forbidden".into()));

    let untrusting = door.client(Some(&door.token), None).version().await.unwrap_err();
    assert!(matches!(untrusting, ClientError::Unreachable { .. }), "{untrusting:?}");
    let text = format!("{untrusting} {untrusting:?} {good:?}");
    assert!(!text.contains(&door.token), "{text}");

    let mut plain = TcpStream::connect(("127.0.0.1", door.port())).await.unwrap();
    let answer = request_on(&mut plain, "GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    door.server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_after_a_reload_and_a_bad_one_never() {
    let door = Door::open(|_| {}).await;
    let before = door.shown().await;
    let renewed = door.certificates.renew();
    assert_eq!(door.shown().await, before, "files are read when somebody says so");
    assert_eq!(door.server.handle.reload(door.settings.clone()).unwrap(), Vec::<&str>::new());
    assert_eq!(door.shown().await, renewed);

    fs::write(&door.certificates.server.key, "nonsense").unwrap();
    let error = door.server.handle.reload(door.settings.clone()).unwrap_err();
    assert!(matches!(error, ServeError::Tls { .. }), "{error}");
    assert_eq!(door.shown().await, renewed);
    // A key that belongs to another certificate.
    let other = TempDir::new();
    let other = Certificates::new(other.path());
    fs::copy(&other.server.key, &door.certificates.server.key).unwrap();
    let error = door.server.handle.reload(door.settings.clone()).unwrap_err();
    assert!(matches!(error, ServeError::Tls { .. }), "{error}");

    let mut moved = door.settings.clone();
    moved.tcp = None;
    moved.socket = Some("/elsewhere".into());
    moved.limits.streams_max += 1;
    assert_eq!(door.server.handle.reload(moved).unwrap().len(), 3, "the rest needs a restart");
    door.server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let door = Door::open(|settings| settings.limits.header_time = Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(("127.0.0.1", door.port())).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    let mut half = TcpStream::connect(("127.0.0.1", door.port())).await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert_eq!(soon("the end", half.read(&mut [0; 16])).await.unwrap_or(0), 0);
    door.server.stop().await;
}

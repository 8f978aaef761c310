//! Who we are to the broker, and who it is to us.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oslo::messaging::rabbit::{MessagingOptions, RabbitTransport};
use oslo::messaging::{Listen, Publish, Published, Transport as _, TransportError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use testkit::disk::TempDir;
use testkit::servers::rabbitmq::{BrokerOptions, BrokerTls, RabbitMq};

use crate::kit::{broker, ctl, next_text, send, serve, to_topic, transport, unique, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_log_in_by_password_works() {
    let broker = testkit::lend!("every_way_to_log_in_by_password_works", broker());
    for method in ["PLAIN", "AMQPLAIN"] {
        let transport = transport(&format!("{}?rabbit_login_method={method}", broker.url()));
        send(&transport, to_topic("nobody", "x")).await.unwrap();
        transport.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_can_be_mended_at_the_broker() {
    let broker = testkit::lend!("a_wrong_password_can_be_mended_at_the_broker", broker());
    let user = unique("user");
    let transport = Arc::new(transport(&format!("rabbit://{user}:r1ght@127.0.0.1:{}/", broker.port())));
    let listening = tokio::spawn({
        let transport = Arc::clone(&transport);
        async move { within(transport.listen(Listen::Replies)).await }
    });
    until(&transport, "it is refused", |status| {
        status
            .listeners
            .first()
            .and_then(|listener| listener.last_error.clone())
            .is_some_and(|error| error.contains("403"))
    })
    .await;
    let error = transport.status().listeners[0].last_error.clone().unwrap();
    assert!(error.contains("check the user, its password and its permissions") && !error.contains("r1ght"), "{error}");
    ctl(broker, &["add_user", &user, "r1ght"]);
    ctl(broker, &["set_permissions", &user, ".*", ".*", ".*"]);
    listening.await.unwrap().unwrap();
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_one_broker_refuses_leads_to_the_next() {
    let broker = testkit::lend!("a_password_that_one_broker_refuses_leads_to_the_next", broker());
    let port = broker.port();
    // Whichever is first: the list is shuffled.
    for _ in 0..4 {
        let transport = transport(&format!("rabbit://guest:wrong@127.0.0.1:{port},guest:guest@127.0.0.1:{port}/"));
        send(&transport, to_topic("nobody", "x")).await.unwrap();
        transport.close().await;
    }
}

/// An authority with the certificates that it signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key.
    fn sign(&self, name: &str, addresses: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(addresses).unwrap();
        params.distinguished_name = named(name).distinguished_name;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

struct Files {
    dir: TempDir,
}

impl Files {
    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

async fn connects(url: &str) -> Result<(), String> {
    let transport = RabbitTransport::new(&MessagingOptions::of_url(url).unwrap(), None).map_err(|it| it.to_string())?;
    let publish = Publish { give_up_after: Some(Duration::from_secs(5)), ..to_topic("nobody", "x") };
    let published = match transport.publish(publish).await {
        Ok(published) => {
            assert_eq!(published, Published::Taken);
            Ok(())
        }
        Err(TransportError::Unreachable { what, .. }) => Err(what),
        Err(error) => Err(error.to_string()),
    };
    transport.close().await;
    published
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tls_both_sides_know_whom_they_speak_to() {
    let authority = Authority::new("authority");
    let (cert_pem, key_pem) = authority.sign("broker", &["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let tls = BrokerTls { ca_pem: authority.pem.clone(), cert_pem, key_pem, wants_client_certificate: true };
    let options = BrokerOptions {
        tls: Some(tls),
        plugins: &["rabbitmq_auth_mechanism_ssl"],
        config: "auth_mechanisms.1 = AMQPLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n"
            .into(),
    };
    let broker = tokio::task::block_in_place(|| RabbitMq::start(&options));
    let broker = testkit::lend!("by_tls_both_sides_know_whom_they_speak_to", broker);
    let files = Files { dir: TempDir::new() };
    let (cert, key) = authority.sign("data", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let ca = files.write("ca.pem", &authority.pem);
    let other_ca = files.write("other-ca.pem", &Authority::new("another authority").pem);
    let cert = files.write("cert.pem", &cert);
    let key = files.write("key.pem", &key);
    let port = broker.tls_port();
    let url = |hosts: &[&str], query: &str| {
        let hosts: Vec<_> = hosts.iter().map(|host| format!("guest:guest@{host}:{port}")).collect();
        format!("rabbit://{}/?ssl=1&{query}", hosts.join(","))
    };
    let own = format!("ssl_cert_file={cert}&ssl_key_file={key}");
    let all = format!("{own}&ssl_ca_file={ca}");

    // Everything right, and messages go both ways.
    let transport = transport(&url(&["127.0.0.1"], &all));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    send(&transport, to_topic(&topic, &"x".repeat(1_000_000))).await.unwrap();
    assert_eq!(next_text(&mut listener).await.len(), 1_000_000);
    transport.close().await;
    connects(&url(&["127.0.0.1"], &format!("{all}&ssl_version=TLSv1_2"))).await.unwrap();

    // An authority that did not sign the broker's certificate.
    let error = connects(&url(&["127.0.0.1"], &format!("{own}&ssl_ca_file={other_ca}"))).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let both = url(&["127.0.0.1", "127.0.0.1"], &format!("{own}&ssl_ca_file={other_ca}"));
    let error = connects(&both).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    // No authority: no check, as oslo.messaging has it.
    connects(&url(&["127.0.0.1"], &own)).await.unwrap();

    // A name that the certificate is not for: refused for one host, taken for several, or when told so.
    let error = connects(&url(&["localhost"], &all)).await.unwrap_err();
    assert!(error.contains("localhost") || error.contains("NotValidForName"), "{error}");
    connects(&url(&["localhost", "localhost"], &all)).await.unwrap();
    connects(&url(&["localhost"], &format!("{all}&ssl_enforce_hostname_verification=0"))).await.unwrap();

    // Without our certificate the broker does not want us.
    let error = connects(&url(&["127.0.0.1"], &format!("ssl_ca_file={ca}"))).await.unwrap_err();
    assert!(!error.is_empty());
    // Without TLS it does not understand us.
    let plain = format!("rabbit://guest:guest@127.0.0.1:{port}/");
    connects(&plain).await.unwrap_err();

    // By the certificate alone.
    ctl(&broker, &["add_user", "data", "unused"]);
    ctl(&broker, &["set_permissions", "data", ".*", ".*", ".*"]);
    let external = format!("rabbit://127.0.0.1:{port}/?ssl=1&{all}&rabbit_login_method=EXTERNAL");
    connects(&external).await.unwrap();

    // What cannot be read is told at the start.
    let error = connects(&url(&["127.0.0.1"], "ssl_ca_file=/nowhere.pem")).await.unwrap_err();
    assert!(error.contains("`ssl_ca_file` `/nowhere.pem`"), "{error}");
    let error = connects(&url(&["127.0.0.1"], &format!("ssl_cert_file={cert}"))).await.unwrap_err();
    assert!(error.contains("ssl_key_file"), "{error}");
}

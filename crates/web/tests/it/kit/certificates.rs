//! Certificates of a day: an authority, and a server that it vouches for.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use web::TlsFiles;

/// An authority with its file, and the files of a server called `localhost`.
pub(crate) struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) authority: PathBuf,
    pub(crate) server: TlsFiles,
}

impl Certificates {
    pub(crate) fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = dir.join("authority.pem");
        fs::write(&authority, params.self_signed(&key).unwrap().pem()).unwrap();
        let server = TlsFiles { certificates: dir.join("server.pem"), key: dir.join("server.key") };
        let certificates = Self { issuer: Issuer::new(params, key), authority, server };
        certificates.renew();
        certificates
    }

    /// A new key and certificate in the same files. Answers the certificate.
    pub(crate) fn renew(&self) -> Vec<u8> {
        let names = ["localhost".to_owned(), "127.0.0.1".into()];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(&self.server.certificates, certificate.pem()).unwrap();
        fs::write(&self.server.key, key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }
}

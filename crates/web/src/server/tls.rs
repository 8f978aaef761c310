//! Certificates and keys from PEM files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::ServeError;
use crate::settings::TlsFiles;

/// Reads both and sees that they belong together.
pub(crate) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, ServeError> {
    let TlsFiles { certificates: path, key: key_path } = files;
    let bad = |path: &std::path::Path, what: String| ServeError::Tls { path: path.into(), what };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>);
    let certificates = read.map_err(|error| bad(path, error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad(path, "it contains no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| bad(key_path, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(path, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| bad(path, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

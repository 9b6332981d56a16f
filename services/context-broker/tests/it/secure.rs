//! A server of the test's own that speaks HTTP over TLS.

use std::{path::PathBuf, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::sink::{Received, answer};

/// A server behind TLS whose certificate is its own authority.
pub struct SecureSink {
    /// With the path `/in`.
    pub url: String,
    pub received: mpsc::Receiver<Received>,
    /// Its certificate, PEM.
    pub ca_file: PathBuf,
    _dir: tempfile::TempDir,
}

impl SecureSink {
    /// Answers every request with 200 and `body`.
    pub async fn start(body: &'static str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/in", listener.local_addr().unwrap().port());
        let (sender, received) = mpsc::channel(10);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    // A client that does not trust it breaks off.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, sender, "200 OK", body).await;
                    }
                });
            }
        });
        Self { url, received, ca_file, _dir: dir }
    }
}

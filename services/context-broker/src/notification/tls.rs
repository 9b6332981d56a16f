//! TLS to receivers and context providers: the system's certificate authorities and those of a file; or none, when the configuration says so.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::sync::OnceCell;

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// Any certificate is good.
    pub(crate) insecure: bool,
    /// PEM file of further authorities.
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("authorities not read from {file}: {reason}")]
    File { file: PathBuf, reason: String },
    #[error(transparent)]
    Settings(#[from] rustls::Error),
}

/// Whom to trust, read when it is first needed: that takes its time.
pub(crate) struct Trust {
    options: TlsOptions,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    pub(crate) fn new(options: TlsOptions) -> Self {
        Self { options, config: OnceCell::new() }
    }

    pub(super) fn options(&self) -> &TlsOptions {
        &self.options
    }

    /// The client's side of TLS; the error says why there is none.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let make = || async {
            let options = self.options.clone();
            let made = tokio::task::spawn_blocking(move || client_config(&options)).await;
            let made = made.map_err(|error| error.to_string())?;
            made.map(Arc::new).map_err(|error| error.to_string())
        };
        self.config.get_or_try_init(make).await.cloned()
    }
}

/// Reads files: not for a runtime's thread.
fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if options.insecure {
        let verifier = Arc::new(AnyServer(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    Ok(builder.with_root_certificates(authorities(options)?).with_no_client_auth())
}

fn authorities(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate authority of the system was not read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = &options.ca_file {
        let failed = |error: rustls::pki_types::pem::Error| TlsError::File {
            file: file.clone(),
            reason: error.to_string(),
        };
        for certificate in CertificateDer::pem_file_iter(file).map_err(failed)? {
            roots.add(certificate.map_err(failed)?)?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("there is no certificate authority: no receiver can be verified over TLS");
    }
    Ok(roots)
}

/// Takes any certificate; what it signs is still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS to receivers: the system's certificate authorities and those of a file; or none, when the configuration says so.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Any certificate is good.
    pub insecure: bool,
    /// PEM file of further authorities.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("authorities not read from {file}: {reason}")]
    File { file: PathBuf, reason: String },
    #[error(transparent)]
    Settings(#[from] rustls::Error),
}

/// Reads files: not for a runtime's thread.
pub(super) fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
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
        tracing::warn!("there is no certificate authority: no https receiver can be verified");
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

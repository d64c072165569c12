//! TLS: a certificate from files, which is read again when they change.

use std::fs;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// How often it is looked whether there is a new certificate. It is made weeks before the old one is over.
const LOOK: Duration = Duration::from_secs(60);

/// What connections are encrypted with. Clones have the same certificate.
#[derive(Clone)]
pub(super) struct Tls {
    files: TlsFiles,
    current: Arc<RwLock<Current>>,
}

struct Current {
    config: Arc<ServerConfig>,
    text: Text,
}

/// What stood in the files.
#[derive(PartialEq, Eq)]
struct Text {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub(super) fn read(files: TlsFiles) -> anyhow::Result<Self> {
        let text = Text::read(&files)?;
        let current = Current { config: text.config(&files)?, text };
        Ok(Self { files, current: Arc::new(RwLock::new(current)) })
    }

    /// What the next connection is encrypted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone().into()
    }

    /// Reads the files again every minute, and when the process gets SIGHUP, until `stop` says so. What cannot be used is
    /// told, and the certificate before it stays.
    pub(super) async fn reload(self, mut stop: watch::Receiver<bool>) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::warn!(%error, "SIGHUP cannot be handled: a new certificate needs a restart"),
        };
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = hangup.recv() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.look_again() {
                Ok(true) => tracing::info!("connections have a new certificate from now on"),
                Ok(false) => {}
                Err(error) => tracing::error!(error = format!("{error:#}"), "the old certificate stays in use"),
            }
        }
    }

    /// Whether there is something new.
    fn look_again(&self) -> anyhow::Result<bool> {
        let text = Text::read(&self.files)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).text == text {
            return Ok(false);
        }
        let config = text.config(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { config, text };
        Ok(true)
    }
}

impl Text {
    fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        let at = |key: &str, path: &std::path::Path| format!("{key} = {} cannot be read", path.display());
        let certificate =
            fs::read(&files.certificate).with_context(|| at("tls.certificate_file", &files.certificate))?;
        let key = fs::read(&files.key).with_context(|| at("tls.key_file", &files.key))?;
        Ok(Self { certificate, key })
    }

    fn config(&self, files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.with_context(|| {
            format!("tls.certificate_file = {} is no certificate in PEM", files.certificate.display())
        })?;
        // What is wrong with a key is not told in its own words.
        let key = PrivateKeyDer::from_pem_slice(&self.key).ok();
        let key = key.with_context(|| format!("tls.key_file = {} is no private key in PEM", files.key.display()))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.context("the certificate and the key do not belong together")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

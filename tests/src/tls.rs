//! TLS in front of a database that has none: the certificate that the services made, for localhost.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Listens on a port of localhost and passes everything on to `to`, decrypted.
pub struct TlsProxy {
    /// The port.
    pub port: u16,
    _tasks: JoinSet<()>,
}

impl TlsProxy {
    /// Starts one with `server.pem` and `server-key.pem` of `dir`.
    ///
    /// # Panics
    /// The certificate cannot be used.
    pub async fn start(dir: &Path, to: String) -> Self {
        let mut certificates = BufReader::new(File::open(dir.join("server.pem")).expect("server.pem"));
        let chain = CertificateDer::pem_reader_iter(&mut certificates).collect::<Result<Vec<_>, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_file(dir.join("server-key.pem")).expect("server-key.pem");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((incoming, _)) = listener.accept().await {
                let (acceptor, to) = (acceptor.clone(), to.clone());
                connections.spawn(async move {
                    let Ok(mut decrypted) = acceptor.accept(incoming).await else { return };
                    let Ok(mut outgoing) = TcpStream::connect(to).await else { return };
                    let _ = copy_bidirectional(&mut decrypted, &mut outgoing).await;
                });
            }
        });
        Self { port, _tasks: tasks }
    }
}

//! A way to the broker that can be cut, and that can lose what a server has just acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use url::Url;

/// Passes everything on in both directions, until it is told otherwise.
pub(crate) struct Relay {
    /// The broker by this way, with the same login.
    pub(crate) url: Url,
    /// Whether what is sent to the broker is thrown away.
    swallowing: Arc<AtomicBool>,
    /// Whether nobody gets a connection.
    closed: Arc<AtomicBool>,
    connections: Arc<Mutex<JoinSet<()>>>,
    _accepting: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(broker: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("{}:{}", broker.host_str().unwrap(), broker.port().unwrap_or(5672));
        let mut url = broker.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (swallowing, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let mut accepting = JoinSet::new();
        let (swallows, refuses, taken) = (Arc::clone(&swallowing), Arc::clone(&closed), Arc::clone(&connections));
        accepting.spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                if refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(outgoing) = TcpStream::connect(&to).await else { continue };
                taken.lock().await.spawn(pass(incoming, outgoing, Arc::clone(&swallows)));
            }
        });
        Self { url, swallowing, closed, connections, _accepting: accepting }
    }

    /// From now on the broker hears nothing more; what it says still arrives.
    pub(crate) fn swallow(&self) {
        self.swallowing.store(true, Ordering::Relaxed);
    }

    /// Ends every connection, and lets nobody connect again.
    pub(crate) async fn cut(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.connections.lock().await.shutdown().await;
    }

    /// Whoever connects gets through again, in both directions.
    pub(crate) fn mend(&self) {
        self.swallowing.store(false, Ordering::Relaxed);
        self.closed.store(false, Ordering::Relaxed);
    }
}

async fn pass(incoming: TcpStream, outgoing: TcpStream, swallows: Arc<AtomicBool>) {
    let (mut from_server, mut to_server) = incoming.into_split();
    let (mut from_broker, mut to_broker) = outgoing.into_split();
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            // It may end within a frame: the connection is cut before another byte is passed on.
            if !swallows.load(Ordering::Relaxed) && to_broker.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let back = copy(&mut from_broker, &mut to_server);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}

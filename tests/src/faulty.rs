//! A database that fails on demand: HTTP in front of the real one, on a port of its own.
//!
//! Start at [`FaultyStore`]. A [`Rule`] says which requests meet which [`Fault`]; everything else
//! passes untouched, the login included. Down means what it means for a database that was stopped:
//! the port refuses. Connections are served one by one and not by a router, because half an answer
//! and a lost one are nothing that a router can give.

mod rule;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use url::Url;

pub use rule::{Fault, Rule, Which, batches, every, writes};

use rule::culprit;

/// The real database behind a port that fails as its rules say. Gone when it is dropped, with every
/// connection.
pub struct FaultyStore {
    address: SocketAddr,
    behind: Arc<Behind>,
    serving: JoinSet<()>,
    /// Bound and never listening: while nobody listens the port refuses, and stays ours.
    _reserved: TcpSocket,
}

/// What a connection needs to answer.
struct Behind {
    /// With its login, for whoever is told of it.
    upstream: Url,
    http: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    struck: AtomicUsize,
}

impl FaultyStore {
    /// Stands in front of `upstream`; up, and without a fault.
    ///
    /// # Panics
    /// There is no port for it.
    pub async fn start(upstream: &Url) -> Self {
        let reserved = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let behind = Behind {
            upstream: upstream.clone(),
            http: reqwest::Client::builder().no_proxy().build().expect("an HTTP client"),
            rules: Mutex::default(),
            struck: AtomicUsize::new(0),
        };
        let mut store = Self {
            address: reserved.local_addr().expect("a bound socket"),
            behind: Arc::new(behind),
            serving: JoinSet::new(),
            _reserved: reserved,
        };
        store.up();
        store
    }

    /// Its address, with the login of the real one.
    pub fn url(&self) -> String {
        let mut url = self.behind.upstream.clone();
        url.set_scheme("http").expect("an HTTP address");
        url.set_ip_host(self.address.ip()).expect("an HTTP address");
        url.set_port(Some(self.address.port())).expect("an HTTP address");
        url.into()
    }

    /// Adds a rule. Of several that are about a request, the one that was added first strikes.
    pub fn inject(&self, rule: Rule) {
        self.behind.rules().push(rule);
    }

    /// Ends every rule and begins with this one, with no request between them.
    pub fn replace(&self, rule: Rule) {
        *self.behind.rules() = vec![rule];
    }

    /// Ends every rule; what was struck goes on as it has begun.
    pub fn clear(&self) {
        self.behind.rules().clear();
    }

    /// How many requests have met a fault.
    pub fn struck(&self) -> usize {
        self.behind.struck.load(Ordering::Relaxed)
    }

    /// Cuts every connection, and refuses new ones until it is [`up`](Self::up).
    pub async fn down(&mut self) {
        self.serving.shutdown().await;
    }

    /// Listens, on the port that it always had. To be called when it is down.
    pub fn up(&mut self) {
        let listener = bound(self.address).listen(1024).expect("a listener on the reserved port");
        self.serving.spawn(serve(listener, Arc::clone(&self.behind)));
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Lets the listener have the port that the reserving socket holds.
    socket.set_reuseaddr(true).expect("an option of the socket");
    socket.bind(address).expect("a port of 127.0.0.1");
    socket
}

async fn serve(listener: TcpListener, behind: Arc<Behind>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let behind = Arc::clone(&behind);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&behind), request));
                    // It may well end in an error: that is what it is for.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

/// A whole answer, before anything happens to it.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// One that says in CouchDB's way that something is wrong.
    fn error(status: u16, error: &str, reason: &str) -> Self {
        let body = json!({ "error": error, "reason": reason }).to_string();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { status: StatusCode::from_u16(status).expect("an HTTP status"), headers, body: body.into() }
    }
}

type Pieces = BoxStream<'static, io::Result<Frame<Bytes>>>;

async fn answer(behind: Arc<Behind>, request: Request<Incoming>) -> io::Result<Response<StreamBody<Pieces>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let fault = behind.strike(&head.method, head.uri.path(), &body);
    let Answer { status, headers, body } = match fault {
        Some(Fault::Status(status)) => Answer::error(status, name(status), "so the test wants it"),
        Some(Fault::DocumentLimit(limit)) => {
            Answer::error(413, "document_too_large", &culprit(&body, limit).unwrap_or_default())
        }
        Some(Fault::Hang | Fault::Half | Fault::Drip { .. } | Fault::Lost | Fault::Counted) | None => {
            behind.forward(Request::from_parts(head, body)).await.map_err(io::Error::other)?
        }
    };
    let length = body.len();
    let half: io::Result<Frame<Bytes>> = Ok(Frame::data(body.slice(..length / 2)));
    let pieces: Pieces = match fault {
        Some(Fault::Hang) => stream::iter([half]).chain(stream::pending()).boxed(),
        Some(Fault::Half) => stream::iter([half]).chain(stream::once(cut())).boxed(),
        Some(Fault::Drip { pieces, pause }) => drip(&body, pieces, pause),
        Some(Fault::Lost) => return Err(io::Error::other("the answer is lost")),
        Some(Fault::Status(_) | Fault::DocumentLimit(_) | Fault::Counted) | None => {
            stream::iter([Ok(Frame::data(body))]).boxed()
        }
    };
    let mut response = Response::new(StreamBody::new(pieces));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(response)
}

/// The name that CouchDB gives an error of that status.
fn name(status: u16) -> &'static str {
    match status {
        401 => "unauthorized",
        403 => "forbidden",
        429 => "too_many_requests",
        503 => "service_unavailable",
        _ => "internal_server_error",
    }
}

/// The end of a connection, once what was sent before has left.
async fn cut() -> io::Result<Frame<Bytes>> {
    tokio::task::yield_now().await;
    Err(io::Error::other("the connection is cut"))
}

fn drip(body: &Bytes, pieces: usize, pause: Duration) -> Pieces {
    let size = body.len().div_ceil(pieces).max(1);
    let parts = (0..body.len()).step_by(size).map(|start| body.slice(start..body.len().min(start + size)));
    let parts: Vec<Bytes> = parts.collect();
    let after_a_pause = move |part: Bytes| async move {
        tokio::time::sleep(pause).await;
        io::Result::Ok(Frame::data(part))
    };
    stream::iter(parts).then(after_a_pause).boxed()
}

impl Behind {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that this request meets.
    fn strike(&self, method: &Method, path: &str, body: &[u8]) -> Option<Fault> {
        let mut rules = self.rules();
        let fault = rules.iter_mut().find_map(|rule| rule.strike(method, path, body))?;
        self.struck.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    async fn forward(&self, request: Request<Bytes>) -> reqwest::Result<Answer> {
        let (head, body) = request.into_parts();
        let mut url = self.upstream.clone();
        url.set_path(head.uri.path());
        url.set_query(head.uri.query());
        // The login is in the headers, as the caller has it; it may be a wrong one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let mut headers = head.headers;
        headers.remove(HOST);
        of_one_connection(&mut headers);
        let response = self.http.request(head.method, url).headers(headers).body(body).send().await?;
        let (status, mut headers) = (response.status(), response.headers().clone());
        of_one_connection(&mut headers);
        Ok(Answer { status, headers, body: response.bytes().await? })
    }
}

/// Takes out what is said of one connection, and not of what goes over it.
fn of_one_connection(headers: &mut HeaderMap) {
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

//! RabbitMQ, by AMQP 0-9-1.
//!
//! Start at [`AmqpBroker`]. This is the one place that names lapin. Channels are kept apart by
//! what can break them: publishing has one, notices have one, questions (passive declares, which
//! a missing queue answers by closing the channel) have one that is opened anew after a no, and
//! every consumer has its own.

mod channel;
mod connection;
mod consume;
mod convert;
mod presence;
mod publish;

use std::path::PathBuf;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use url::Url;
use vogeler_process::Secret;

pub use connection::AmqpSession;
pub use consume::{AmqpAcks, AmqpConsumer};

use crate::{Broker, ConnectError};

/// The largest frame that a connection asks for. lapin keeps 64 frames of buffer a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// The smallest that RabbitMQ 4.1 and later accept (8192 bytes), which is what makes the agent
    /// small; throughput does not suffer.
    Small,
    /// RabbitMQ's own default (131072 bytes). All headers of a message have to fit into one frame,
    /// and the server has to read whatever a producer put there.
    Large,
}

impl Frames {
    fn bytes(self) -> u32 {
        match self {
            Self::Small => 8192,
            Self::Large => 131_072,
        }
    }
}

/// Lets the threads of lapin's connections have a stack that no message overflows. To be called once,
/// before there is any other thread.
///
/// lapin reads tables within tables by recursion and bounds only the frame they come in: a frame of
/// 131072 bytes holds 26,000 levels, which took 128 MiB of stack and not 256 (debug build, lapin 4.12.3). It
/// starts its thread with the standard library's default, and that can be set by `RUST_MIN_STACK` alone. What is
/// not used of a stack costs address space and no memory. A larger value that somebody has set stands.
///
/// # Safety
/// There must be no other thread: the environment is changed.
#[allow(unsafe_code, clippy::disallowed_methods, reason = "the one way to that default; there is one thread yet")]
pub unsafe fn deepen_stacks(frames: Frames) {
    let bytes: usize = match frames {
        Frames::Small => 16 << 20,
        Frames::Large => 256 << 20,
    };
    const VARIABLE: &str = "RUST_MIN_STACK";
    let set = std::env::var(VARIABLE).ok().and_then(|set| set.parse::<usize>().ok());
    if set.is_none_or(|set| set < bytes) {
        // SAFETY: the caller vouches that no other thread reads the environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, bytes.to_string()) };
    }
}

/// Seconds. A consumer whose machine died is gone after two to three of these.
pub const HEARTBEAT: u16 = 30;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long a connection may take to come up, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the broker is and who we are there.
#[derive(Clone)]
pub struct AmqpSettings {
    /// `amqp://host:port/vhost` or `amqps://…`, without a password.
    pub url: Url,
    /// The virtual host, where the URL names none.
    pub vhost: Option<String>,
    /// The login.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What the broker's list of connections calls this one.
    pub name: String,
    /// How large frames may be.
    pub frames: Frames,
}

/// A RabbitMQ that can be connected to.
#[derive(Clone)]
pub struct AmqpBroker {
    settings: AmqpSettings,
}

impl AmqpBroker {
    /// A broker at that place. Nothing is connected yet.
    pub fn new(settings: AmqpSettings) -> Self {
        Self { settings }
    }

    /// The virtual host: the one that the URL names, or that is set, or `/`.
    pub fn vhost(&self) -> String {
        let path = self.settings.url.path().trim_start_matches('/');
        let in_url = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        match (in_url.as_ref(), &self.settings.vhost) {
            ("", Some(vhost)) => vhost.clone(),
            ("", None) => "/".to_owned(),
            (vhost, _) => vhost.to_owned(),
        }
    }

    fn uri(&self) -> Result<AMQPUri, String> {
        let url = &self.settings.url;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            other => return Err(format!("{other}:// is neither amqp:// nor amqps://")),
        };
        let port = url.port().unwrap_or(if scheme == AMQPScheme::AMQPS { 5671 } else { 5672 });
        Ok(AMQPUri {
            scheme,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.settings.username.clone(),
                    password: self.settings.password.reveal().to_owned(),
                },
                host: url.host_str().ok_or("it names no host")?.trim_matches(['[', ']']).to_owned(),
                port,
            },
            vhost: self.vhost(),
            query: AMQPQueryString {
                frame_max: Some(self.settings.frames.bytes()),
                heartbeat: Some(HEARTBEAT),
                ..AMQPQueryString::default()
            },
        })
    }

    fn tls(&self) -> Result<OwnedTLSConfig, String> {
        let Some(path) = &self.settings.ca_file else { return Ok(OwnedTLSConfig::default()) };
        let chain = std::fs::read_to_string(path).map_err(|error| format!("CA file {}: {error}", path.display()))?;
        if !chain.contains("-----BEGIN CERTIFICATE-----") {
            return Err(format!("CA file {} holds no certificate in PEM form", path.display()));
        }
        Ok(OwnedTLSConfig { identity: None, cert_chain: Some(chain) })
    }
}

impl Broker for AmqpBroker {
    type Session = AmqpSession;

    async fn connect(&self) -> Result<AmqpSession, ConnectError> {
        let address = self.address();
        let unusable = |reason| ConnectError::Configuration { address: address.clone(), reason };
        let (uri, tls) = (self.uri().map_err(unusable)?, self.tls().map_err(unusable)?);
        let properties = ConnectionProperties::default().with_connection_name(self.settings.name.as_str().into());
        let runtime = lapin::runtime::default_runtime().map_err(|error| unusable(error.to_string()))?;
        let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
        match tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(connecting)).await {
            Ok(Ok(connection)) => Ok(AmqpSession::new(connection, self.clone())),
            Ok(Err(error)) => Err(convert::connect_error(address, &error)),
            Err(_) => {
                let reason = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                Err(ConnectError::Unreachable { address, reason })
            }
        }
    }

    fn address(&self) -> String {
        let mut url = self.settings.url.clone();
        // Both only fail on a URL that can have no login, which has nothing to hide then.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url.into()
    }

    fn login(&self) -> String {
        self.settings.username.clone()
    }
}

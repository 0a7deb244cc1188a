//! A connection that is cut while calls are on their way: each of them ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vogeler_messaging::amqp::{AmqpSession, Frames};
use vogeler_messaging::config::BrokerSection;
use vogeler_messaging::{Acks as _, Broker as _, ConsumeOptions, Consumer as _, Lost, Message, Publish, Session as _};
use vogeler_protocol::Random;
use vogeler_tests::{Site, torture};

const QUEUE: &str = "master.in.0";

/// A way to the broker that ends with what is returned.
async fn way(broker: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut ways = JoinSet::new();
    ways.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(broker).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    (address, ways)
}

/// Calls after the loss have to end as well.
const ERRORS: usize = 20;

async fn ask(session: AmqpSession) {
    let mut errors = 0;
    while errors < ERRORS {
        errors += usize::from(session.queue_status(QUEUE).await.is_err());
    }
}

async fn publish(session: AmqpSession) {
    let message = Message { body: b"{}".to_vec(), ..Message::default() };
    let publish = || Publish { exchange: "vogeler.dead", routing_key: "", mandatory: true, message: message.clone() };
    let mut errors = 0;
    while errors < ERRORS {
        errors += usize::from(session.publish(publish()).await.is_err());
    }
}

async fn consume(session: AmqpSession) {
    let options = ConsumeOptions { prefetch: 3, exclusive: false, no_ack: false };
    let mut errors = 0;
    while errors < ERRORS {
        let Ok(mut consumer) = session.consume("vogeler.dead", options).await else {
            errors += 1;
            continue;
        };
        let acks = consumer.acks();
        for _ in 0..3 {
            let Ok(Some(delivery)) = timeout(Duration::from_millis(20), consumer.next()).await else { break };
            errors += usize::from(acks.ack(&[delivery.tag]).await.is_err());
        }
    }
}

#[tokio::test]
async fn every_call_ends_when_its_connection_is_cut() {
    let site = Site::start("cut").await;
    site.setup().await;
    let broker = site.services.amqp.socket_addrs(|| Some(5672)).unwrap()[0];
    let random: Random = torture::seeded();
    for round in 0..torture::volume(60, 600) {
        let (address, mut way) = way(broker).await;
        let mut url = site.services.amqp.clone();
        url.set_host(Some(&address.ip().to_string())).unwrap();
        url.set_port(Some(address.port())).unwrap();
        let section =
            BrokerSection { url: url.to_string(), vhost: Some(site.vhost.clone()), ..BrokerSection::default() };
        let session = section.amqp("vogeler-tests", Frames::Small).unwrap().connect().await.unwrap();
        let mut calls = JoinSet::new();
        for _ in 0..3 {
            calls.spawn(ask(session.clone()));
            calls.spawn(publish(session.clone()));
            calls.spawn(consume(session.clone()));
        }
        // When it happens within their work is what the story tries.
        sleep(random.up_to(Duration::from_millis(30))).await;
        way.shutdown().await;
        let ended = async { while calls.join_next().await.is_some() {} };
        assert!(
            timeout(Duration::from_secs(10), ended).await.is_ok(),
            "round {round}: a call has not ended within 10 s"
        );
    }
}

/// 2,047 channels are what RabbitMQ allows, and lapin opens none a second time that was closed with an error.
#[tokio::test]
async fn a_connection_that_has_no_channel_left_ends() {
    let site = Site::bare("channels").await;
    let session = site.session().await;
    let mut answers = 0;
    let error = loop {
        match session.queue_status("nothing").await {
            Ok(status) => assert!(status.is_none()),
            Err(error) => break error,
        }
        answers += 1;
    };
    assert!((2000..=2047).contains(&answers), "{answers}");
    assert!(matches!(&error, Lost::Connection(words) if words.contains("no channel is left")), "{error:?}");
    timeout(Duration::from_secs(30), session.closed()).await.expect("told within 30 s");
    assert!(site.session().await.queue_status("nothing").await.unwrap().is_none());
}

//! The specification of [`Broker`] and [`Session`], as code.

use std::time::Duration;

use vogeler_messaging::topology::{QueueKind, node_queue, run_queue, servers_queue, setup_queue};
use vogeler_messaging::{
    Acks, Broker, ConsumeError, ConsumeOptions, Consumer, Declared, Delivery, Exchange, ExchangeKind, Header, Lost,
    Message, Properties, Publish, PublishError, Queue, Session,
};

use crate::eventually;

const SHARED: ConsumeOptions = ConsumeOptions { prefetch: 10, exclusive: false, no_ack: false };

fn exchange(name: &str, kind: ExchangeKind) -> Exchange {
    Exchange { name: name.to_owned(), kind, alternate: None }
}

fn message(body: &str) -> Message {
    Message { body: body.into(), properties: Properties { persistent: true, ..Properties::default() } }
}

async fn publish<S: Session>(session: &S, exchange: &str, key: &str, body: &str) -> Result<(), PublishError> {
    session.publish(Publish { exchange, routing_key: key, mandatory: true, message: message(body) }).await
}

async fn next<C: Consumer>(consumer: &mut C) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
    next.expect("a delivery within 20 s").expect("the consumer lives")
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.message.body).expect("text")
}

/// A node's queue, bound to a topic exchange by its own key.
async fn node<S: Session>(session: &S, name: &str) -> Queue {
    session.declare_exchange(&exchange("in", ExchangeKind::Topic)).await.unwrap();
    let queue = node_queue(&name.parse().unwrap());
    session.declare_queue(&queue).await.unwrap();
    session.bind(&queue.name, "in", &format!("node.{name}")).await.unwrap();
    session.bind(&queue.name, "in", "broadcasts.all").await.unwrap();
    queue
}

/// The queue of results with its dead letters.
async fn results<S: Session>(session: &S, delivery_limit: u32, max_bytes: u64) -> (Queue, Queue) {
    let dead = Queue { name: "dead".into(), kind: QueueKind::Dead { max_bytes: 1 << 20 } };
    let kind = QueueKind::Results { delivery_limit, dead_letter_exchange: "dead".into(), max_bytes };
    let results = Queue { name: "results".into(), kind };
    session.declare_exchange(&exchange("dead", ExchangeKind::Fanout)).await.unwrap();
    session.declare_queue(&dead).await.unwrap();
    session.bind("dead", "dead", "").await.unwrap();
    session.declare_exchange(&exchange("master", ExchangeKind::Direct)).await.unwrap();
    session.declare_queue(&results).await.unwrap();
    session.bind("results", "master", "slot.1").await.unwrap();
    (results, dead)
}

/// A topic reaches each queue that is bound for it, once, and carries all its properties.
pub async fn routes_by_topic<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (a, b) = (node(&session, "a").await, node(&session, "b.example.com").await);
    // Bound by two keys that both match, it still comes once.
    session.bind(&a.name, "in", "broadcasts.*").await.unwrap();
    let properties = Properties {
        message_id: Some("m1".into()),
        correlation_id: Some("run".into()),
        kind: Some("command".into()),
        timestamp: Some(1_700_000_000),
        content_type: Some("application/json".into()),
        app_id: Some("test".into()),
        expiration: Some(Duration::from_secs(60)),
        user_id: Some(broker.login()),
        persistent: true,
        headers: [
            ("text".to_owned(), Header::Text("ü".into())),
            ("number".to_owned(), Header::Number(-7)),
            ("flag".to_owned(), Header::Flag(true)),
        ]
        .into(),
    };
    let sent = Message { body: b"all".to_vec(), properties };
    let publish_all = Publish { exchange: "in", routing_key: "broadcasts.all", mandatory: true, message: sent.clone() };
    session.publish(publish_all).await.unwrap();
    publish(&session, "in", "node.b.example.com", "one").await.unwrap();
    let mut of_a = session.consume(&a.name, SHARED).await.unwrap();
    let mut of_b = session.consume(&b.name, SHARED).await.unwrap();
    let first = next(&mut of_a).await;
    assert_eq!(first.message, sent);
    assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("in", "broadcasts.all"));
    assert!(!first.redelivered && first.count == 0);
    assert_eq!(text(&next(&mut of_b).await), "all");
    assert_eq!(text(&next(&mut of_b).await), "one");
    session.unbind(&b.name, "in", "node.b.example.com").await.unwrap();
    let gone = publish(&session, "in", "node.b.example.com", "two").await;
    assert!(matches!(gone, Err(PublishError::Unroutable { .. })), "{gone:?}");
}

/// What no queue takes is an error, and the next publish works all the same.
pub async fn says_what_is_unroutable<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let queue = node(&session, "a").await;
    let nowhere = publish(&session, "in", "node.nobody", "x").await;
    assert!(matches!(nowhere, Err(PublishError::Unroutable { .. })), "{nowhere:?}");
    let no_exchange = publish(&session, "no such exchange", "x", "x").await;
    assert!(matches!(no_exchange, Err(PublishError::Lost(_))), "{no_exchange:?}");
    publish(&session, "in", "node.a", "x").await.unwrap();
    assert_eq!(text(&next(&mut session.consume(&queue.name, SHARED).await.unwrap()).await), "x");
}

/// No more than the prefetch is handed out; acknowledging makes room, in any order.
pub async fn keeps_to_the_prefetch<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (queue, _) = results(&session, 50, 1 << 20).await;
    for number in 0..6 {
        publish(&session, "master", "slot.1", &number.to_string()).await.unwrap();
    }
    let mut consumer =
        session.consume(&queue.name, ConsumeOptions { prefetch: 3, exclusive: false, no_ack: false }).await.unwrap();
    let mut held = Vec::new();
    for expected in ["0", "1", "2"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), expected);
        held.push(delivery.tag);
    }
    let early = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(early.is_err(), "a fourth delivery with three unsettled");
    let acks = consumer.acks();
    acks.ack(&[held[2]]).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "3");
    acks.ack(&[held[0], held[1]]).await.unwrap();
    acks.ack(&[held[0], held[2]]).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "4");
    assert_eq!(text(&next(&mut consumer).await), "5");
}

/// What is unsettled when a consumer closes comes again in order, counted; what was acknowledged does not.
pub async fn returns_what_is_unsettled<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (queue, _) = results(&session, 50, 1 << 20).await;
    for number in 0..4 {
        publish(&session, "master", "slot.1", &number.to_string()).await.unwrap();
    }
    let mut first = session.consume(&queue.name, SHARED).await.unwrap();
    let mut tags = Vec::new();
    for _ in 0..4 {
        tags.push(next(&mut first).await.tag);
    }
    first.acks().ack(&[tags[1]]).await.unwrap();
    first.close().await;
    let mut second = session.consume(&queue.name, SHARED).await.unwrap();
    for expected in ["0", "2", "3"] {
        let delivery = next(&mut second).await;
        assert_eq!((text(&delivery), delivery.redelivered, delivery.count), (expected, true, 1));
    }
}

/// One consumer of the results works; the next takes over when it goes.
pub async fn has_one_active_consumer<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (queue, _) = results(&session, 50, 1 << 20).await;
    let mut active = session.consume(&queue.name, SHARED).await.unwrap();
    let other = broker.connect().await.unwrap();
    let mut standby = other.consume(&queue.name, SHARED).await.unwrap();
    publish(&session, "master", "slot.1", "a").await.unwrap();
    assert_eq!(text(&next(&mut active).await), "a");
    let early = tokio::time::timeout(Duration::from_millis(200), standby.next()).await;
    assert!(early.is_err(), "the standby was given something");
    let counted = async || session.queue_status(&queue.name).await.unwrap().unwrap().consumers;
    assert_eq!(counted().await, 1, "the standby is not counted");
    active.close().await;
    let taken_over = next(&mut standby).await;
    assert_eq!((text(&taken_over), taken_over.redelivered), ("a", true));
    assert_eq!(counted().await, 1, "there is no moment without one while somebody stands by");
    standby.close().await;
    eventually(async || match counted().await {
        0 => Ok(()),
        consumers => Err(format!("{consumers} consumers after all have gone")),
    })
    .await;
}

/// What no queue takes goes to the alternate exchange, each message to the one or the other; where that has no queue
/// either, its producer hears so.
pub async fn passes_on_what_no_queue_takes<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let aside = exchange("aside", ExchangeKind::Fanout);
    let master = Exchange { alternate: Some(aside.name.clone()), ..exchange("master", ExchangeKind::Direct) };
    for exchange in [&aside, &master, &master] {
        assert_eq!(session.declare_exchange(exchange).await.unwrap(), Declared::AsAsked);
    }
    let without = exchange("master", ExchangeKind::Direct);
    assert!(matches!(session.declare_exchange(&without).await.unwrap(), Declared::Differs(_)));
    let nobody = publish(&session, "master", "slot.1", "0").await;
    assert!(matches!(nobody, Err(PublishError::Unroutable { .. })), "{nobody:?}");
    let queues = ["first", "second"].map(|name| {
        let kind = QueueKind::Results { delivery_limit: 50, dead_letter_exchange: "dead".into(), max_bytes: 1 << 20 };
        Queue { name: name.into(), kind }
    });
    for queue in &queues {
        session.declare_queue(queue).await.unwrap();
    }
    let [first, second] = queues.each_ref().map(|queue| queue.name.as_str());
    session.bind(second, "aside", "").await.unwrap();
    // It does the same behind another exchange, whoever else is bound to that.
    session.declare_exchange(&exchange("front", ExchangeKind::Direct)).await.unwrap();
    for _ in 0..2 {
        session.bind_exchange("master", "front", "slot.1").await.unwrap();
    }
    let (entrance, tap) = ("front", node(&session, "tap").await.name);
    session.bind(&tap, entrance, "slot.1").await.unwrap();
    for body in ["1", "2", "3", "4"] {
        match body {
            "2" => session.bind(first, "master", "slot.1").await.unwrap(),
            "3" => session.unbind(first, "master", "slot.1").await.unwrap(),
            _ => {}
        }
        publish(&session, if body == "4" { "master" } else { entrance }, "slot.1", body).await.unwrap();
    }
    session.unbind(&tap, entrance, "slot.1").await.unwrap();
    session.unbind(second, "aside", "").await.unwrap();
    let nobody = publish(&session, entrance, "slot.1", "5").await;
    assert!(matches!(nobody, Err(PublishError::Unroutable { .. })), "{nobody:?}");
    for (queue, expected) in [(first, &["2"][..]), (second, &["1", "3", "4"][..]), (tap.as_str(), &["1", "2", "3"][..])]
    {
        let mut consumer = session.consume(queue, SHARED).await.unwrap();
        for body in expected {
            assert_eq!(text(&next(&mut consumer).await), *body);
        }
        let more = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
        assert!(more.is_err(), "{queue} has no more than it was sent: {more:?}");
    }
}

/// Who consumes a queue hears that it was deleted, and how many do is counted.
pub async fn tells_consumers_that_their_queue_is_gone<B: Broker>(broker: B) {
    let (session, other) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let queue = servers_queue();
    session.declare_queue(&queue).await.unwrap();
    let options = ConsumeOptions { prefetch: 1, exclusive: false, no_ack: true };
    let mut one = session.consume(&queue.name, options).await.unwrap();
    let mut another = other.consume(&queue.name, options).await.unwrap();
    assert_eq!(session.queue_status(&queue.name).await.unwrap().unwrap().consumers, 2);
    assert_eq!(session.delete_queue(&queue.name).await.unwrap(), Some(0));
    for consumer in [&mut one, &mut another] {
        let told = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.expect("told within 20 s");
        assert!(told.is_none(), "{told:?}");
    }
    assert_eq!(session.delete_queue(&queue.name).await.unwrap(), None);
    session.declare_queue(&queue).await.unwrap();
    let again = other.consume(&queue.name, options).await.unwrap();
    assert_eq!(session.queue_status(&queue.name).await.unwrap().unwrap().consumers, 1, "and both connections are well");
    again.close().await;
}

/// A queue that is a connection's alone is refused to others, until that connection goes.
pub async fn keeps_a_queue_for_one_connection<B: Broker>(broker: B) {
    let (session, other) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let queue = setup_queue();
    for _ in 0..2 {
        assert_eq!(session.declare_queue(&queue).await.unwrap(), Declared::AsAsked);
    }
    let refused = other.declare_queue(&queue).await;
    assert!(matches!(&refused, Err(Lost::Denied(words)) if words.contains("RESOURCE_LOCKED")), "{refused:?}");
    session.close().await;
    eventually(async || other.declare_queue(&queue).await.map(drop)).await;
}

/// An exclusive consumer admits no second one, until it goes.
pub async fn admits_one_exclusive_consumer<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let queue = node(&session, "a").await;
    let options = ConsumeOptions { prefetch: 1, exclusive: true, no_ack: false };
    let first = session.consume(&queue.name, options).await.unwrap();
    let other = broker.connect().await.unwrap();
    let refused = other.consume(&queue.name, options).await.err();
    assert!(matches!(refused, Some(ConsumeError::InUse(_))), "{refused:?}");
    assert_eq!(other.queue_status(&queue.name).await.unwrap().unwrap().consumers, 1);
    first.close().await;
    eventually(async || other.consume(&queue.name, options).await.map(drop)).await;
}

/// A delivery that needs no acknowledgement is settled, and does not count against the prefetch.
pub async fn delivers_without_acknowledgement<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let queue = node(&session, "a").await;
    for body in ["1", "2", "3"] {
        publish(&session, "in", "node.a", body).await.unwrap();
    }
    let options = ConsumeOptions { prefetch: 1, exclusive: true, no_ack: true };
    let mut consumer = session.consume(&queue.name, options).await.unwrap();
    for body in ["1", "2", "3"] {
        assert_eq!(text(&next(&mut consumer).await), body);
    }
    consumer.close().await;
    assert_eq!(session.queue_status(&queue.name).await.unwrap().unwrap().messages, 0);
}

/// What was delivered too often goes to the dead letters.
pub async fn buries_what_comes_too_often<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (queue, dead) = results(&session, 2, 1 << 20).await;
    publish(&session, "master", "slot.1", "poison").await.unwrap();
    for expected in 0..3 {
        let mut consumer = session.consume(&queue.name, SHARED).await.unwrap();
        assert_eq!(next(&mut consumer).await.count, expected);
        consumer.close().await;
    }
    let mut letters = session.consume(&dead.name, SHARED).await.unwrap();
    assert_eq!(text(&next(&mut letters).await), "poison");
}

/// A queue that is full refuses, and what it has stays.
pub async fn refuses_when_full<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let (queue, _) = results(&session, 50, 3000).await;
    let body = "x".repeat(1000);
    // A broker may take a few over the limit before it notices; it has to notice.
    let mut taken = 0;
    let refused = eventually(async || match publish(&session, "master", "slot.1", &body).await {
        Ok(()) => {
            taken += 1;
            Err(format!("a refusal; {taken} were taken"))
        }
        Err(error) => Ok(error),
    })
    .await;
    assert!(matches!(refused, PublishError::Full { .. }), "{refused:?}");
    assert!(taken >= 2, "{taken} of three thousand bytes were taken");
    let mut consumer = session.consume(&queue.name, SHARED).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await).len(), 1000);
}

/// What has expired is not delivered.
pub async fn drops_what_has_expired<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let queue = node(&session, "a").await;
    let mut expiring = message("old");
    // Good only for a consumer that is there already, and there is none.
    expiring.properties.expiration = Some(Duration::ZERO);
    let publish_old = Publish { exchange: "in", routing_key: "node.a", mandatory: true, message: expiring };
    session.publish(publish_old).await.unwrap();
    publish(&session, "in", "node.a", "new").await.unwrap();
    let mut consumer = session.consume(&queue.name, SHARED).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "new");
}

/// Questions about what is not there are answered, again and again.
pub async fn answers_questions<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    assert!(!session.exchange_exists("in").await.unwrap());
    assert_eq!(session.queue_status("nothing").await.unwrap(), None);
    let queue = node(&session, "a").await;
    assert!(session.exchange_exists("in").await.unwrap());
    publish(&session, "in", "node.a", "x").await.unwrap();
    eventually(async || {
        let status = session.queue_status(&queue.name).await.unwrap().unwrap();
        (status.messages == 1 && status.consumers == 0).then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    assert_eq!(session.declare_queue(&queue).await.unwrap(), Declared::AsAsked);
    let QueueKind::Node { expires, max_length } = queue.kind else { unreachable!("a node's queue") };
    let other = Queue { kind: QueueKind::Node { expires, max_length: max_length + 1 }, name: queue.name.clone() };
    assert!(matches!(session.declare_queue(&other).await.unwrap(), Declared::Differs(_)));
    assert_eq!(session.queue_status("nothing").await.unwrap(), None, "and the connection is well");
    let closed = tokio::time::timeout(Duration::from_millis(100), session.closed()).await;
    assert!(closed.is_err(), "a refusal is no loss: {closed:?}");
}

/// A run's queue goes with its connection, and a notice that nobody takes is no trouble.
pub async fn forgets_a_run<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    session.declare_exchange(&exchange("events", ExchangeKind::Topic)).await.unwrap();
    let queue = run_queue("019aa0b0-0000-7000-8000-000000000001".parse().unwrap());
    session.declare_queue(&queue).await.unwrap();
    session.bind(&queue.name, "events", "run.1").await.unwrap();
    let mut consumer =
        session.consume(&queue.name, ConsumeOptions { prefetch: 10, exclusive: true, no_ack: false }).await.unwrap();
    let other = broker.connect().await.unwrap();
    for key in ["run.nobody", "run.1"] {
        let told = Publish { exchange: "events", routing_key: key, mandatory: false, message: message("event") };
        assert!(other.notify(told));
    }
    assert_eq!(text(&next(&mut consumer).await), "event");
    session.close().await;
    eventually(async || match other.queue_status(&queue.name).await {
        Ok(None) => Ok(()),
        status => Err(format!("the queue is gone; {status:?}")),
    })
    .await;
}

/// A connection that is cut says so, its consumers end, and another one finds everything durable.
pub async fn says_that_it_is_lost<B: Broker>(broker: B, cut: impl AsyncFnOnce()) {
    let session = broker.connect().await.unwrap();
    let (queue, _) = results(&session, 50, 1 << 20).await;
    publish(&session, "master", "slot.1", "kept").await.unwrap();
    let mut consumer = session.consume(&queue.name, SHARED).await.unwrap();
    let held = next(&mut consumer).await;
    cut().await;
    tokio::time::timeout(Duration::from_secs(30), session.closed()).await.expect("told within 30 s");
    let ended = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await.expect("told within 30 s");
    assert!(ended.is_none(), "{ended:?}");
    assert!(consumer.acks().ack(&[held.tag]).await.is_err(), "an acknowledgement that was not sent");
    assert!(matches!(publish(&session, "master", "slot.1", "lost").await, Err(PublishError::Lost(_))));
    let again = broker.connect().await.unwrap();
    let mut consumer = again.consume(&queue.name, SHARED).await.unwrap();
    let kept = next(&mut consumer).await;
    assert_eq!((text(&kept), kept.redelivered), ("kept", true));
}

/// Of many queues each is told, in the order of the question, missing ones among them; a queue can be deleted.
pub async fn answers_many_questions_at_once<B: Broker>(broker: B) {
    let session = broker.connect().await.unwrap();
    let mut names = Vec::new();
    for number in 0..60 {
        names.push(format!("vogeler.node.n{number:02}"));
        if number % 3 > 0 {
            node(&session, &format!("n{number:02}")).await;
        }
    }
    let statuses = session.queue_statuses(&names).await.unwrap();
    let missing: Vec<usize> = (0..60).filter(|number| statuses[*number].is_none()).collect();
    assert_eq!(missing, (0..60).step_by(3).collect::<Vec<_>>());
    publish(&session, "in", "node.n01", "x").await.unwrap();
    assert_eq!(session.delete_queue(&names[1]).await.unwrap(), Some(1));
    assert_eq!(session.delete_queue(&names[1]).await.unwrap(), None);
    assert_eq!(session.queue_status(&names[1]).await.unwrap(), None);
    assert!(session.queue_statuses(&[]).await.unwrap().is_empty());
    // More than an AMQP connection has channels to lose.
    let missing: Vec<String> = (0..3000).map(|number| format!("vogeler.node.none{number}")).collect();
    assert_eq!(session.queue_statuses(&missing).await.unwrap(), vec![None; 3000]);
    assert!(session.queue_statuses(&names[2..3]).await.unwrap()[0].is_some());
}

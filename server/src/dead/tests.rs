//! Over the broker in memory; tests/tests/dead.rs tells the same over RabbitMQ.

use vogeler_messaging::memory::MemoryBroker;
use vogeler_messaging::{Broker, Header, Properties};

use super::*;
use crate::setup;
use vogeler_protocol::Clock;

async fn site() -> (MemoryBroker, impl Session, Topology) {
    let broker = MemoryBroker::new(Clock::system());
    let session = broker.connect().await.unwrap();
    let topology = Topology::default();
    setup::declare(&session, &topology).await.unwrap();
    (broker, session, topology)
}

async fn die(session: &impl Session, topology: &Topology, id: &str, reason: &str) {
    let mut properties = Properties { message_id: Some(id.to_owned()), ..Properties::default() };
    properties.headers.insert("vogeler-reason".into(), Header::Text(reason.into()));
    let message = Message { body: format!(r#"{{"node":"web01","of":"{id}"}}"#).into_bytes(), properties };
    let publish = Publish { exchange: &topology.dead, routing_key: "", mandatory: true, message };
    session.publish(publish).await.unwrap();
}

fn ids(listing: &Listing) -> Vec<(&str, usize)> {
    listing.letters.iter().map(|letter| (letter.id.as_str(), letter.copies)).collect()
}

#[tokio::test]
async fn looking_changes_nothing_and_copies_are_folded() {
    let (broker, session, topology) = site().await;
    for id in ["first", "second", "first"] {
        die(&session, &topology, id, "forbidden").await;
    }
    let dead = DeadLetters { broker: &broker, topology: &topology };
    for _ in 0..2 {
        assert_eq!(ids(&dead.list().await.unwrap()), [("first", 2), ("second", 1)]);
    }
    let (letter, message) = dead.show("seco").await.unwrap();
    assert_eq!((letter.id.as_str(), letter.reason.as_str()), ("second", "forbidden"));
    assert!(String::from_utf8(message.body).unwrap().contains("second"));
    let none = dead.show("third").await.unwrap_err().to_string();
    assert!(none.contains("no dead letter has the id \"third\""), "{none}");
}

#[tokio::test]
async fn what_is_replayed_is_with_the_results_and_no_longer_here() {
    let (broker, session, topology) = site().await;
    for (id, reason) in [("one1", "forbidden"), ("two2", "refused"), ("one1", "forbidden"), ("six6", "forbidden")] {
        die(&session, &topology, id, reason).await;
    }
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let mut replayed = Vec::new();
    let choice = Choice { reason: Some("forbidden".into()), ..Choice::default() };
    let stayed = dead.replay(choice, |letter| replayed.push(letter.id.clone())).await.unwrap();
    assert!(stayed.stayed.is_empty(), "{stayed:?}");
    assert_eq!(replayed, ["one1", "six6"], "a copy is sent once");
    assert_eq!(session.queue_status("master.in.0").await.unwrap().unwrap().messages, 2);
    assert_eq!(ids(&dead.list().await.unwrap()), [("two2", 1)]);
}

#[tokio::test]
async fn an_id_that_two_messages_share_hides_neither() {
    let (broker, session, topology) = site().await;
    for reason in ["forbidden", "refused"] {
        let mut properties = Properties { message_id: Some("cron-1".into()), ..Properties::default() };
        properties.headers.insert("vogeler-reason".into(), Header::Text(reason.into()));
        let message = Message { body: format!(r#"{{"node":"web01","why":"{reason}"}}"#).into_bytes(), properties };
        let publish = Publish { exchange: &topology.dead, routing_key: "", mandatory: true, message };
        session.publish(publish).await.unwrap();
    }
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let listing = dead.list().await.unwrap();
    assert!(listing.letters.iter().all(|letter| letter.id.starts_with("cron-1-") && letter.copies == 1), "{listing:?}");
    let (shown, _) = dead.show(&listing.letters[1].id).await.unwrap();
    assert_eq!(shown.reason, listing.letters[1].reason);
    dead.replay(Choice::default(), |_| {}).await.unwrap();
    assert_eq!(session.queue_status("master.in.0").await.unwrap().unwrap().messages, 2);
}

#[tokio::test]
async fn what_cannot_be_sent_back_stays() {
    let (broker, session, topology) = site().await;
    die(&session, &topology, "one1", "forbidden").await;
    let key = slot();
    session.unbind("master.in.0", &topology.slots_exchange().name, &key).await.unwrap();
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let stayed = dead.replay(Choice::default(), |_| panic!("not sent back")).await.unwrap();
    let [(_, reason)] = &stayed.stayed[..] else { panic!("{stayed:?}") };
    assert!(reason.contains("no queue takes"), "{reason}");
    assert_eq!(ids(&dead.list().await.unwrap()), [("one1", 1)]);
}

fn slot() -> String {
    vogeler_messaging::topology::slot_key(&"web01".parse().unwrap())
}

#[tokio::test]
async fn only_what_was_named_is_dropped() {
    let (broker, session, topology) = site().await;
    for id in ["one-1", "one-2", "two-1"] {
        die(&session, &topology, id, "refused").await;
    }
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let drop = async |id: &str| {
        let choice = Choice { ids: vec![id.to_owned()], ..Choice::default() };
        dead.discard(choice, |_| {}).await.map(drop).map_err(|error| error.to_string())
    };
    assert!(drop("one-").await.unwrap_err().contains("several dead letters"), "the beginning of two");
    assert!(drop("tw").await.unwrap_err().contains("too short"));
    drop("two-").await.unwrap();
    drop("one-2").await.unwrap();
    assert_eq!(ids(&dead.list().await.unwrap()), [("one-1", 1)]);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_do_not_share_the_letters() {
    let (broker, session, topology) = site().await;
    die(&session, &topology, "one1", "refused").await;
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let options = ConsumeOptions { prefetch: 0, exclusive: false, no_ack: false };
    let other = session.consume("vogeler.dead", options).await.unwrap();
    let busy = dead.list().await.unwrap_err().to_string();
    assert!(busy.contains("somebody else consumes vogeler.dead"), "{busy}");
    other.close().await;
    assert_eq!(ids(&dead.list().await.unwrap()), [("one1", 1)]);
}

#[tokio::test]
async fn a_mistyped_choice_is_told_with_the_reasons_that_there_are() {
    let (broker, session, topology) = site().await;
    for (id, reason) in [("one1", "forbidden"), ("two2", "refused")] {
        die(&session, &topology, id, reason).await;
    }
    let dead = DeadLetters { broker: &broker, topology: &topology };
    let mistyped = Choice { reason: Some("forbiden".into()), ..Choice::default() };
    let told = dead.replay(mistyped.clone(), |_| {}).await.unwrap_err().to_string();
    assert!(told.ends_with("nothing was done; the reasons here are forbidden, refused"), "{told}");
    let mut listing = dead.list().await.unwrap();
    assert!(listing.keep(&mistyped).is_err());
    listing.keep(&Choice { reason: Some("refused".into()), ..Choice::default() }).unwrap();
    assert_eq!(ids(&listing), [("two2", 1)]);
    // With nothing asked for there is nothing to mistype.
    dead.replay(Choice::default(), |_| {}).await.unwrap();
    dead.replay(Choice::default(), |_| {}).await.unwrap();
}

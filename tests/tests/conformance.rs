//! Both brokers and both stores, held to the same suite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use reqwest::Method;
use serde_json::Value;
use vogeler_messaging::memory::MemoryBroker;
use vogeler_protocol::Clock;
use vogeler_store::design_docs;
use vogeler_store::memory::MemoryStore;
use vogeler_store::sqlite::Sqlite;
use vogeler_tests::site::workspace;
use vogeler_tests::suites::{messaging, store};
use vogeler_tests::{Site, eventually};

macro_rules! both_brokers {
    ($($name:ident),+ $(,)?) => {
        mod memory_broker {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                messaging::$name(MemoryBroker::new(Clock::system())).await;
            })+
        }

        mod rabbitmq {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let site = Site::bare("broker").await;
                messaging::$name(site.broker()).await;
            })+
        }
    };
}

both_brokers!(
    routes_by_topic,
    says_what_is_unroutable,
    keeps_to_the_prefetch,
    returns_what_is_unsettled,
    has_one_active_consumer,
    admits_one_exclusive_consumer,
    buries_what_comes_too_often,
    refuses_when_full,
    drops_what_has_expired,
    answers_questions,
    forgets_a_run,
    answers_many_questions_at_once,
    delivers_without_acknowledgement,
    passes_on_what_no_queue_takes,
    tells_consumers_that_their_queue_is_gone,
    keeps_a_queue_for_one_connection,
);

#[tokio::test]
async fn memory_broker_says_that_it_is_lost() {
    let broker = MemoryBroker::new(Clock::system());
    let cut = broker.clone();
    messaging::says_that_it_is_lost(broker, async || cut.disconnect()).await;
}

#[tokio::test]
async fn rabbitmq_says_that_it_is_lost() {
    let site = Site::bare("broker").await;
    let cut = async || {
        // The management's list of connections lags behind; at least ours has to be on it.
        let names = eventually(async || {
            let path = format!("/api/vhosts/{}/connections", site.vhost);
            let listed = site.services.manage(Method::GET, &path, None).await?;
            let names: Vec<String> = listed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|connection| connection["name"].as_str().map(str::to_owned))
                .collect();
            anyhow::ensure!(!names.is_empty(), "our connection in the management's list");
            anyhow::Ok(names)
        })
        .await;
        for name in names {
            let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
            site.services.manage(Method::DELETE, &path, None).await.unwrap();
        }
    };
    messaging::says_that_it_is_lost(site.broker(), cut).await;
}

macro_rules! all_stores {
    ($($name:ident),+ $(,)?) => {
        mod memory_store {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                store::$name(MemoryStore::default()).await;
            })+
        }

        mod sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                store::$name(Sqlite::new(&folder.path().join("below/records.db"))).await;
            })+
        }

        mod couch {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let site = Site::bare("store").await;
                store::$name(site.couch()).await;
            })+
        }
    };
}

all_stores!(is_created_once, keeps_what_it_is_given, tells_each_rows_fate, finds_by_condition, finds_more_than_a_page,);

#[tokio::test]
async fn memory_store_starts_afresh_after_a_deletion() {
    let memory = MemoryStore::default();
    let same = memory.clone();
    store::starts_afresh_after_a_deletion(memory, async |id| same.delete(id)).await;
}

#[tokio::test]
async fn sqlite_starts_afresh_after_a_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::new(&folder.path().join("records.db"));
    let same = sqlite.clone();
    store::starts_afresh_after_a_deletion(sqlite, async |id| same.delete(id).await.unwrap()).await;
}

#[tokio::test]
async fn sqlite_lists_its_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let docs = design_docs::read_all(&workspace().join("design-docs")).unwrap();
    store::lists_its_nodes(Sqlite::new(&folder.path().join("records.db")), &docs).await;
}

#[tokio::test]
async fn couch_starts_afresh_after_a_deletion() {
    let site = Site::bare("store").await;
    let delete = async |id: &vogeler_protocol::NodeName| {
        let path = format!("/{}/{id}", site.database);
        let document = site.services.couch(Method::GET, &path, None).await.unwrap();
        let rev = document["_rev"].as_str().unwrap().to_owned();
        site.services.couch(Method::DELETE, &format!("{path}?rev={rev}"), None).await.unwrap();
    };
    store::starts_afresh_after_a_deletion(site.couch(), delete).await;
}

#[tokio::test]
async fn memory_store_lists_its_nodes() {
    store::lists_its_nodes(MemoryStore::default(), &design_docs::read_all(&workspace().join("design-docs")).unwrap())
        .await;
}

#[tokio::test]
async fn couch_lists_its_nodes() {
    let site = Site::bare("store").await;
    store::lists_its_nodes(site.couch(), &design_docs::read_all(&workspace().join("design-docs")).unwrap()).await;
}

/// Without these arguments dead-lettering silently falls back to at most once.
#[tokio::test]
async fn the_results_queue_is_what_the_design_asks_for() {
    let site = Site::start("topology").await;
    let path = format!("/api/queues/{}/master.in.0", site.vhost);
    let queue = site.services.manage(Method::GET, &path, None).await.unwrap();
    let arguments = &queue["arguments"];
    for (name, expected) in [
        ("x-queue-type", Value::from("quorum")),
        ("x-single-active-consumer", true.into()),
        ("x-delivery-limit", 50.into()),
        ("x-dead-letter-exchange", "vogeler.dead".into()),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-overflow", "reject-publish".into()),
        ("x-max-length-bytes", (8_u64 << 30).into()),
    ] {
        assert_eq!(arguments[name], expected, "{name} of {arguments}");
    }
    let bindings = site.services.manage(Method::GET, &format!("{path}/bindings"), None).await.unwrap();
    let slots = bindings.as_array().unwrap().iter().filter(|b| b["source"] == "vogeler.master.in.slots").count();
    assert_eq!(slots, 64);
}

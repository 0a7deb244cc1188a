//! Nodes that nobody has heard of are written unread; whoever was heard of after all is read.

use std::sync::atomic::Ordering;

use vogeler_messaging::{Message, Properties};
use vogeler_protocol::NodeName;
use vogeler_store::{Row, Store as _};

use super::served::{Served, until};

async fn send_from(served: &Served, names: impl Fn(usize) -> String, seq: u64) {
    for number in 0..400 {
        served.send(&names(number), seq).await;
    }
    let last = async || {
        for number in 0..400 {
            if !served.holds(&names(number), seq).await {
                return false;
            }
        }
        true
    };
    until("every result is stored", 5, last).await;
}

#[tokio::test(start_paused = true)]
async fn many_new_nodes_are_written_unread_until_that_is_wrong() {
    let served = Served::start().await;
    let read = || served.store.read.load(Ordering::Relaxed);
    send_from(&served, |number| format!("first{number}"), 1).await;
    let before = read();
    assert!(before >= 50, "that they are new is found out by reading");
    send_from(&served, |number| format!("second{number}"), 1).await;
    assert_eq!(read(), before, "almost all were new; these are taken to be");

    // Nodes with a record that this server has never seen.
    let name = |number: usize| format!("known{number}");
    let rows = (0..400).map(|number| {
        let document = format!(
            r#"{{"_id":"{0}","system_name":"{0}","doc_type":"SystemRecord","rack":"b{number}"}}"#,
            name(number)
        );
        Row { id: name(number).parse().unwrap(), document: document.into() }
    });
    served.store.records.put(&rows.collect::<Vec<_>>()).await.unwrap();
    send_from(&served, name, 2).await;
    let ids: Vec<NodeName> = (0..400).map(|number| name(number).parse().unwrap()).collect();
    for (number, document) in served.store.records.fetch(&ids).await.unwrap().into_iter().enumerate() {
        let document = document.unwrap();
        assert!(document.contains(&format!(r#""rack":"b{number}""#)), "what others wrote stays: {document}");
    }
    assert!(read() >= before + 400, "each of them was read before it was written");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_turned_away_is_noted_although_its_node_was_taken_for_new() {
    let mut served = Served::start().await;
    let hello = |instance: u8, contends: bool| {
        let body = format!(
            r#"{{"v":1,"node":"twin","version":"0.1.0","instance":"00000000-0000-4000-8000-0000000000{instance:02}",
                "machine_id":"m{instance}","epoch":1,"seq":1,"contends":{contends}}}"#
        );
        let properties = Properties { kind: Some("hello".into()), ..Properties::default() };
        Message { body: body.into_bytes(), properties }
    };
    served.send_message("twin", hello(1, false)).await;
    until("the first one is known", 1, async || served.record("twin").await.contains("0000000001")).await;
    // What the server has in memory is gone with its connection.
    served.broker.disconnect();
    served.connect_again().await;
    send_from(&served, |number| format!("first{number}"), 1).await;
    served.send_message("twin", hello(2, true)).await;
    until("the clash is noted", 1, async || served.record("twin").await.contains("clash")).await;
}

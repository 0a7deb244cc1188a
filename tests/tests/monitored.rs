//! What a monitoring system and a supervisor are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixDatagram;
use tokio::time::timeout;
use vogeler_tests::faulty::FaultyStore;
use vogeler_tests::{Fleet, Outcome, Program, Site, eventually};

/// Where a server that was told to take any port answers, by its own words.
fn monitored_at(server: &Program) -> String {
    let log = server.log();
    let line =
        log.lines().find(|line| line.contains("answering /healthz")).unwrap_or_else(|| panic!("an address in\n{log}"));
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    format!("http://{address}")
}

async fn ask(url: &str) -> anyhow::Result<(u16, String)> {
    let answer = reqwest::Client::builder().no_proxy().build()?.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

async fn expect_health(at: &str, status: u16, words: &str) -> Value {
    eventually(async || {
        let (told, body) = ask(&format!("{at}/healthz")).await?;
        anyhow::ensure!(told == status && body.contains(words), "{status} with {words:?}; it answers {told}: {body}");
        Ok(serde_json::from_str(&body)?)
    })
    .await
}

#[tokio::test]
async fn healthz_says_what_is_missing() {
    let site = Site::start("healthz").await;
    let mut store = FaultyStore::start(&site.services.couchdb).await;
    let env = [("VOGELER_STORE_URL", store.url()), ("VOGELER_SERVER_HTTP", "127.0.0.1:0".to_owned())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = site.server_with(&env).await;
    let at = monitored_at(&server);
    let told = expect_health(&at, 200, "ok").await;
    assert_eq!(told, json!({ "status": "ok", "broker": "connected", "database": "there" }));
    // Though it has nothing to write.
    store.down().await;
    let told = expect_health(&at, 503, "away since").await;
    assert_eq!((&told["status"], &told["broker"]), (&json!("waiting"), &json!("connected")), "{told}");
    store.up();
    expect_health(&at, 200, "ok").await;
    let (nowhere, _) = ask(&format!("{at}/nowhere")).await.unwrap();
    assert_eq!(nowhere, 404);
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let site = Site::start("metrics").await;
    let server = site.server_with(&[("VOGELER_SERVER_HTTP", "127.0.0.1:0")]).await;
    let at = monitored_at(&server);
    let mut fleet = Fleet::new("counted", 5);
    fleet.send(&site, 20, 100).await;
    let session = site.session().await;
    let mut poison = fleet.next(0, 100);
    poison.body.truncate(50);
    fleet.publish(&session, 0, poison).await.unwrap();
    eventually(async || {
        let (_, text) = ask(&format!("{at}/metrics")).await?;
        for line in [
            "vogeler_server_deliveries_total 21",
            "vogeler_server_settled_total{outcome=\"stored\"} 20",
            "vogeler_server_dead_letters_total{reason=\"not_a_result\"} 1",
            "vogeler_server_in_flight 0",
            "vogeler_server_in_flight_bytes 0",
            "vogeler_server_conflicts_total 0",
        ] {
            anyhow::ensure!(text.lines().any(|told| told == line), "{line} in\n{text}");
        }
        anyhow::ensure!(text.contains("vogeler_server_batch_duration_seconds_bucket"), "a histogram in\n{text}");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_said() {
    let site = Site::start("taken").await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    let refused = site.run("vogeler-server", &["run", "--http", &address]).await.expect(1);
    let words = format!("cannot listen on {address}, which --http or server.http names");
    assert!(refused.stderr.contains(&words), "{refused:?}");
    let none =
        Outcome::of(site.command("vogeler-server", &["run"]).env("VOGELER_SERVER_PREFETCH", "0")).await.expect(1);
    assert!(none.stderr.contains("server.prefetch is 0; it has to be 1 or more"), "{none:?}");
    let wrong = site.run("vogeler-server", &["run", "--http", "here"]).await.expect(1);
    assert!(wrong.stderr.contains("--http"), "{wrong:?}");
}

/// What systemd would hear; with a watchdog that wants a sign of life twice in 200 ms.
struct Supervisor(UnixDatagram, String);

impl Supervisor {
    fn listen(site: &Site) -> Self {
        let path = site.path("notify");
        Self(UnixDatagram::bind(&path).unwrap(), path.display().to_string())
    }

    async fn expect(&self, words: &str) {
        let mut heard = Vec::new();
        loop {
            let mut datagram = [0; 4096];
            let next = timeout(Duration::from_secs(45), self.0.recv(&mut datagram)).await;
            let size = next.unwrap_or_else(|_| panic!("{words} among {heard:?}")).unwrap();
            let told = String::from_utf8_lossy(&datagram[..size]).into_owned();
            if told.contains(words) {
                return;
            }
            heard.push(told);
        }
    }
}

#[tokio::test]
async fn systemd_is_told_by_the_server() {
    let site = Site::start("notified").await;
    let systemd = Supervisor::listen(&site);
    let server = site.server_with(&[("NOTIFY_SOCKET", &systemd.1), ("WATCHDOG_USEC", "200000")]).await;
    for words in ["READY=1", "STATUS=consuming", "WATCHDOG=1", "WATCHDOG=1"] {
        systemd.expect(words).await;
    }
    let ended = tokio::join!(server.stop(), systemd.expect("STOPPING=1")).0;
    assert_eq!(ended, 0, "the server's exit status");
}

#[tokio::test]
async fn systemd_is_told_by_the_client() {
    let site = Site::start("notified").await;
    let systemd = Supervisor::listen(&site);
    let node = site.node("web01").env("NOTIFY_SOCKET", &systemd.1).env("WATCHDOG_USEC", "200000");
    let client = node.start().await;
    for words in ["READY=1", "STATUS=connected", "WATCHDOG=1", "WATCHDOG=1"] {
        systemd.expect(words).await;
    }
    let ended = tokio::join!(client.stop(), systemd.expect("STOPPING=1")).0;
    assert_eq!(ended, 0, "the client's exit status");
}

//! Connections that an administrator closes under those who use them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;
use vogeler_tests::{Account, Fleet, Site, eventually, torture};

use crate::load::{SMALL_BATCHES, under_load};
use crate::web01::{HELLO, Web01, while_its_plugin_runs};

const SERVER: &str = "vogeler-server";
const CLIENT: &str = "vogeler-client web01";

/// The names that the broker gives to the connections of a program.
async fn connections(site: &Site, program: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("/api/vhosts/{}/connections", site.vhost);
    let all = site.services.manage(Method::GET, &path, None).await?;
    let all = all.as_array().context("connections")?;
    let of_program = all.iter().filter(|one| one["client_properties"]["connection_name"] == program);
    Ok(of_program.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect())
}

/// Closes one, as the button in the management's pages does.
async fn close(site: &Site, connection: &str) -> anyhow::Result<()> {
    site.services.manage(Method::DELETE, &format!("/api/connections/{connection}"), None).await?;
    Ok(())
}

/// Closes the client's connection, as soon as there is one; its name.
async fn close_the_clients(site: &Site) -> String {
    eventually(async || {
        let connection = connections(site, CLIENT).await?.pop().context("a connection of the client's")?;
        close(site, &connection).await?;
        anyhow::Ok(connection)
    })
    .await
}

/// The server's two connections.
#[derive(Debug)]
struct Both {
    consuming: String,
    publishing: String,
}

impl Both {
    async fn find(site: &Site) -> anyhow::Result<Self> {
        let consumers = site.services.manage(Method::GET, &format!("/api/consumers/{}", site.vhost), None).await?;
        let of_results = |one: &&Value| one["queue"]["name"] == "master.in.0";
        let consumer =
            consumers.as_array().and_then(|all| all.iter().find(of_results)).context("the server's consumer")?;
        let consuming = consumer["channel_details"]["connection_name"].as_str().context("its connection")?.to_owned();
        let mut publishing = connections(site, SERVER).await?;
        publishing.retain(|name| *name != consuming);
        let publishing = publishing.pop().context("the server's other connection")?;
        Ok(Self { consuming, publishing })
    }
}

/// The story of both connections of the server's: the one that `which` names is closed, time and again.
async fn closed_under_load(name: &str, fault: &str, which: impl Fn(&Both) -> &str) {
    let site = Site::start(name).await;
    let server = site.server_with(&[SMALL_BATCHES]).await;
    let _web01 = Web01::start(&site).await;
    let mut fleet = Fleet::new(name, torture::volume(100, 1_000));
    let times = torture::volume(2, 20);
    let closing = async {
        for _ in 0..times {
            let before = eventually(async || {
                let both = Both::find(&site).await?;
                close(&site, which(&both)).await?;
                anyhow::Ok(both)
            })
            .await;
            eventually(async || {
                let now = Both::find(&site).await?;
                let new = now.consuming != before.consuming && now.publishing != before.publishing;
                anyhow::ensure!(new, "two connections other than {before:?}; the server said:\n{}", server.log());
                anyhow::Ok(())
            })
            .await;
            site.runner(&HELLO).await.expect(0);
        }
    };
    under_load(&site, &mut fleet, closing).await;
    let account = fleet.expect_all_kept(&site).await;
    torture::report(fault, times, &account);
    site.expect_settled().await;
    assert_eq!(server.stop().await, 0, "the server's exit status");
}

#[tokio::test]
async fn the_connection_that_the_server_consumes_on_is_closed_under_load() {
    closed_under_load("consuming", "server's consuming connection closed", |both| both.consuming.as_str()).await;
}

#[tokio::test]
async fn the_connection_that_the_server_publishes_on_is_closed_under_load() {
    closed_under_load("publishing", "server's publishing connection closed", |both| both.publishing.as_str()).await;
}

/// The place of a result in its epoch.
fn place(result: &Value) -> (u64, u64) {
    (result["epoch"].as_u64().unwrap(), result["seq"].as_u64().unwrap())
}

/// The runs that a result answers.
fn runs(result: &Value) -> impl Iterator<Item = &str> {
    let others = result["also_runs"].as_array().into_iter().flatten();
    result["run"].as_str().into_iter().chain(others.filter_map(Value::as_str))
}

#[tokio::test]
async fn a_clients_connection_is_closed_while_commands_flow() {
    let site = Site::start("commands").await;
    let _server = site.server().await;
    let web01 = Web01::start(&site).await;
    web01.overhear().await;
    let (count, mut times) = (torture::volume(20, 200), 0);
    let mut asked = BTreeSet::new();
    for number in 0..count {
        let ran = site.runner(&["-c", "hello", "-n", "web01", "--detach", "-o", "json"]).await.expect(0);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        asked.insert(told["run"].as_str().unwrap().to_owned());
        if number % 5 == 2 {
            close_the_clients(&site).await;
            times += 1;
        }
    }
    let results = eventually(async || {
        let results = web01.results("hello").await?;
        let answered: BTreeSet<String> = results.iter().flat_map(runs).map(str::to_owned).collect();
        let silent: Vec<&String> = asked.difference(&answered).collect();
        anyhow::ensure!(silent.is_empty(), "a result of the runs {silent:?}; the client said:\n{}", web01.client.log());
        anyhow::Ok(results)
    })
    .await;
    web01.expect_acknowledged().await;

    // A confirm that is lost with its connection has the same result published again. It is told
    // by its place, and no run has two.
    let mut places: BTreeMap<&str, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for result in &results {
        for run in runs(result) {
            places.entry(run).or_default().insert(place(result));
        }
    }
    let twice: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(twice.is_empty(), "runs that were answered by two executions: {twice:?}");
    let executions: BTreeSet<(u64, u64)> = results.iter().map(place).collect();
    assert_eq!(web01.starts("hello"), executions.len(), "every start of the plugin has its result: {results:?}");
    site.expect_settled().await;
    let account = Account { sent: asked.len(), stored: places.len(), ..Account::default() };
    torture::report("client's connection closed", times, &account);
}

#[tokio::test]
async fn a_clients_connection_is_closed_while_its_plugin_runs() {
    while_its_plugin_runs("running", async |site, web01| {
        let closed = close_the_clients(site).await;
        eventually(async || {
            let now = connections(site, CLIENT).await?;
            let new = !now.is_empty() && !now.contains(&closed);
            anyhow::ensure!(new, "a new connection of the client's; it said:\n{}", web01.client.log());
            anyhow::Ok(())
        })
        .await;
    })
    .await;
}

//! Whose turn it is, where there is less room than work.

use std::fs;

use vogeler_tests::{Site, eventually};

use crate::agent::introduced;
use crate::processes::Sweep;

/// Both leave a line when they start. `again` runs until there is a file `go`.
const BOTH: &str = "again:
  command: echo again >>turns; until [ -e go ]; do sleep 0.05; done
  shell: true
  format: string
  cwd: {dir}
other:
  command: echo other >>turns
  shell: true
  format: string
  cwd: {dir}
";

/// Otherwise a slow plugin that is asked for once more before it has ended would keep its place for
/// ever, and one whose name comes later would never run.
#[tokio::test]
async fn the_alias_that_has_waited_longest_is_next() {
    let site = Site::start("turns").await;
    let _sweep = Sweep(site.vhost.clone());
    let _server = site.server().await;
    let plugins = BOTH.replace("{dir}", &site.path("").display().to_string());
    let node = site.node(&site.vhost).plugin("both.yaml", &plugins).env("VOGELER_CLIENT_CONCURRENCY", "1");
    let client = node.start().await;
    introduced(&site, &site.vhost).await;
    let turns = || fs::read_to_string(site.path("turns")).unwrap_or_default();
    let all_of = async |count: usize| {
        eventually(async || {
            let turns = turns();
            anyhow::ensure!(turns.lines().count() == count, "{count} turns: {turns:?}; it said:\n{}", client.log());
            anyhow::Ok(turns)
        })
        .await
    };

    let ask = async |alias: &str| site.runner(&["-c", alias, "-n", &site.vhost, "--detach"]).await.expect(0);
    ask("again").await;
    all_of(1).await;
    ask("other").await;
    ask("again").await;
    eventually(async || {
        let taken = client.log().lines().filter(|line| line.contains("command taken")).count();
        anyhow::ensure!(taken == 3, "three commands that the client has; it said:\n{}", client.log());
        anyhow::Ok(())
    })
    .await;
    site.write("go", "");
    assert_eq!(all_of(3).await, "again\nother\nagain\n");
}

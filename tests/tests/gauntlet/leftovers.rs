//! Processes that nothing tells the client of, and those that `exec` has started.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vogeler_tests::{Site, eventually};

use crate::agent::Agent;
use crate::bad;
use crate::processes::{self, Sweep};

/// The stated limit: a program that clears its environment and daemonises. Nothing tells whose it
/// is. It counts as the client's child, where a person finds it, and is reaped when it ends.
#[tokio::test]
async fn a_daemon_that_clears_its_environment_is_left_below_the_client() {
    let site = Site::start("disowns").await;
    let _server = site.server().await;
    let plugins = [bad::disowns()];
    let agent = Agent::start(&site, &plugins).await;
    agent.run(&plugins).await;
    agent.expect_landed(&plugins).await;

    let daemon = Pid::from_raw(bad::left_by(&site, "disowns"));
    let children = processes::children(agent.client.pid().unwrap());
    assert_eq!(children, [daemon], "{}", processes::described(&children));
    kill(daemon, Signal::SIGKILL).unwrap();
    eventually(async || {
        site.runner(&["-c", "good", "-n", &site.vhost]).await.expect(0);
        let children = processes::children(agent.client.pid().unwrap());
        anyhow::ensure!(children.is_empty(), "its remains reaped: {}", processes::described(&children));
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn exec_leaves_no_daemon_behind_either() {
    let site = Site::bare("exec-leaves").await;
    let _sweep = Sweep(site.vhost.clone());
    let plugins = [bad::daemonises()];
    let author = site.node(&site.vhost).plugin("bad.yaml", &bad::prepare(&site, &plugins));
    let printed = author.run(&["exec", "daemonises"]).await.expect(0);
    assert_eq!(printed.stdout, "{\"daemonises\": \"done\"}\n");
    let left = processes::of_node(&site.vhost);
    assert!(left.is_empty(), "left by exec: {}; it said:\n{}", processes::described(&left), printed.stderr);
}

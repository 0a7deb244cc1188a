//! `vogeler-blowout` from the command line to its last figure. What the figures are is no matter of a test: that they add up is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use anyhow::ensure;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value;
use vogeler_tests::{Outcome, Program, Site, eventually};

async fn blowout(site: &Site, line: &str) -> Outcome {
    site.run("vogeler-blowout", &line.split_whitespace().collect::<Vec<_>>()).await
}

fn figure_named<'r>(report: &'r Value, name: &str) -> &'r Value {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.unwrap_or_else(|| panic!("no figure {name:?} in {report:#}"))
}

fn figure(report: &Value, name: &str) -> f64 {
    figure_named(report, name)["value"].as_f64().unwrap()
}

/// Databases and queues of a blowout that are still there.
async fn left(site: &Site) -> Vec<String> {
    let databases = site.services.couch(Method::GET, "/_all_dbs", None).await.unwrap();
    let queues = site.services.manage(Method::GET, &format!("/api/queues/{}", site.vhost), None).await.unwrap();
    let databases = databases.as_array().unwrap().iter().filter_map(Value::as_str);
    let queues = queues.as_array().unwrap().iter().filter_map(|queue| queue["name"].as_str());
    databases.filter(|name| name.starts_with("vogeler_blowout_")).chain(queues).map(str::to_owned).collect()
}

/// Starts one that goes on for long, and waits until its nodes are asked.
async fn begun(site: &Site, log: &str) -> Program {
    let line = ["-n", "30", "--payload", "2k", "--commands", "10000", "--no-limits"];
    let run = Program::start(site.command("vogeler-blowout", &line), &site.path(log));
    eventually(async || {
        ensure!(run.log().contains("asking 30 nodes"), "the nodes are not asked:\n{}", run.log());
        Ok(())
    })
    .await;
    run
}

async fn cut_short(site: &Site) {
    let mut run = begun(site, "interrupted.log").await;
    run.signal(Signal::SIGINT);
    assert_eq!(run.ended().await, 1);
    assert!(run.log().contains("interrupted"), "{}", run.log());
    // What belonged to its connections alone goes when the broker has noticed their end.
    eventually(async || {
        let left = left(site).await;
        ensure!(left.is_empty(), "left of the one that was interrupted: {left:?}");
        Ok(())
    })
    .await;

    begun(site, "killed.log").await.kill().await;
    let cut_off = left(site).await;
    assert!(cut_off.iter().any(|queue| queue.starts_with("vogeler.node.")), "{cut_off:?}");
    // Its server ends a moment later.
    eventually(async || {
        let next = blowout(site, "-n 3 --payload 2k --no-limits").await;
        ensure!(next.status == 0 && next.stderr.contains("an earlier blowout has left"), "{}", next.stderr);
        Ok(())
    })
    .await;
    let left = left(site).await;
    let [database] = &left[..] else { panic!("the database of the one that was killed, and no queue: {left:?}") };
    site.services.couch(Method::DELETE, &format!("/{database}"), None).await.unwrap();
}

#[tokio::test]
async fn a_fleet_is_asked_and_a_queue_is_worked_off_and_nothing_is_left_behind() {
    let site = Site::bare("blowout").await;
    let (plot, grown) = (site.path("plot.svg"), site.path("grown.svg"));

    cut_short(&site).await;

    let line = "-n 40 --profile facts=2k,ps=5k --runners 2 --commands 3 --churn 100 --failures 25 -o json";
    let asked = blowout(&site, &format!("{line} --svg {} --require silent<=0 --require rate>=1e9", plot.display()))
        .await
        .expect(2);
    assert!(asked.stderr.contains("vogeler-blowout: rate is "), "{}", asked.stderr);
    assert!(!asked.stderr.contains("silent is"), "{}", asked.stderr);
    let report: Value = serde_json::from_str(&asked.stdout).unwrap();
    let figure_of = |name: &str| figure(&report, name);
    assert_eq!(figure_of("answers") + figure_of("failed"), 40.0 * 6.0, "{report:#}");
    assert_eq!((figure_of("silent"), figure_of("refused")), (0.0, 0.0));
    assert!(figure_of("failed") > 0.0, "a quarter of the plugins fail");
    assert!(figure_of("results") <= 240.0 && figure_of("result_max") >= figure_of("result_p50"));
    for name in ["rate", "stored_p99"] {
        let of = &figure_named(&report, name)["of"];
        assert!(of["ratio"].as_f64().unwrap() > 0.0, "{name}: {of}");
    }
    assert!(figure_of("raw") > 0.0 && figure_of("raw_broker") > 0.0);
    assert!(figure_of("server_rss") > 1.0 && figure_of("nodes_rss") > 1.0);
    assert!(!report["moments"].as_array().unwrap().is_empty());
    assert!(std::fs::read_to_string(&plot).unwrap().contains("waiting in the broker"));
    assert_eq!(left(&site).await, [""; 0]);

    let done = blowout(&site, "ingest -n 300 --updates 2 -o json --require new_results>=300").await.expect(0);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((figure(&report, "new_results"), figure(&report, "updates_results")), (300.0, 600.0));
    assert!(figure(&report, "bytes_per_byte") < 1.2, "{report:#}");
    assert!(figure(&report, "new_raw") > 0.0 && figure(&report, "updates_raw") > 0.0);
    assert_eq!(left(&site).await, [""; 0]);

    let scaled = blowout(&site, &format!("scale --sizes 5,10 --no-limits --svg {}", grown.display())).await.expect(0);
    assert!(scaled.stdout.contains("n10_stored_p99"), "{}", scaled.stdout);
    assert!(std::fs::read_to_string(&grown).unwrap().contains("CPU of everything"));

    let started = blowout(&site, "programs --require client_ready>=0").await.expect(0);
    assert!(started.stdout.contains("client_pss") && started.stdout.contains("runner_published"), "{}", started.stdout);
    assert_eq!(left(&site).await, [""; 0]);
}

#[tokio::test]
async fn what_may_be_somebodys_own_is_left_alone() {
    let site = Site::bare("quiet").await;
    let refused = blowout(&site, "-n 5").await.expect(1);
    assert!(
        refused.stderr.contains("may have nodes of yours") && refused.stderr.contains("add_vhost"),
        "{}",
        refused.stderr
    );

    let site = Site::start("blowout-busy").await;
    let server = site.server().await;
    let refused = blowout(&site, "ingest -n 5").await.expect(1);
    assert!(refused.stderr.contains("a server is at work"), "{}", refused.stderr);
    drop(server);

    for (line, why) in [
        ("-n 5 --no-limits --require rate_of_raw>=0.7", "measures no limit"),
        ("-n 5 --svg /nowhere/plot.svg", "cannot draw into /nowhere/plot.svg"),
        ("-n 5 --timeout 0s", "--timeout is 0"),
        ("scale --sizes 0,5", "of --sizes is 0"),
    ] {
        let refused = blowout(&site, line).await.expect(1);
        assert!(refused.stderr.contains(why), "{line}: {}", refused.stderr);
    }
    let refused = blowout(&site, "ingest -n 5 --servers 2").await.expect(1);
    assert!(refused.stderr.contains("--servers 2 share 1 queues"), "{}", refused.stderr);

    let wrong = blowout(&site, "--require p99<1").await.expect(1);
    assert!(wrong.stderr.contains("FIGURE<=NUMBER"), "{}", wrong.stderr);
}

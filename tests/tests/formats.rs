//! What plugins print, well or badly, and what becomes of it in the record.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vogeler_tests::{Program, Site, eventually};

const EACH_FORMAT: &str = r"
mounts:
  command: |
    printf '%s\n' '- path: /' '  free: 1.5' '- path: /home'
  format: yaml
motd:
  command: printf 'one\r\ntwo\n'
  format: lines
release:
  command: echo Debian 12
  format: string
  key: os_release
limits:
  command: printf 'core=0\n# words\nnofile=1024\nnofile=4096\n'
  format: keyvalue
";

/// Prints what the file `data` holds, and then fails if there is a file `broken`.
const FLAKY: &str = "flaky:
  command: cat data; [ ! -e broken ] || { echo the disk is on fire >&2; exit 3; }
  shell: true
  format: keyvalue
  key: disk
";

fn flaky(site: &Site) -> String {
    format!("{FLAKY}  cwd: {}\n", site.path("").display())
}

/// A client that has said hello.
async fn client(site: &Site, node: &str, descriptor: &str) -> Program {
    let client = site.node(node).plugin("site.yaml", descriptor).start().await;
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(record["vogeler"]["client"].is_object(), "{node} said hello: {record}");
        anyhow::Ok(())
    })
    .await;
    client
}

#[tokio::test]
async fn each_format_lands_under_its_key() {
    let site = Site::start("formats").await;
    let _server = site.server().await;
    let _client = client(&site, "formats01", EACH_FORMAT).await;
    for (alias, key, format, expected) in [
        ("mounts", "mounts", "yaml", json!([{ "path": "/", "free": 1.5 }, { "path": "/home" }])),
        ("motd", "motd", "lines", json!(["one", "two"])),
        ("release", "os_release", "string", json!("Debian 12")),
        ("limits", "limits", "keyvalue", json!({ "core": "0", "nofile": ["1024", "4096"] })),
    ] {
        site.runner(&["-c", alias, "-n", "formats01"]).await.expect(0);
        let record = site.record("formats01").await.unwrap();
        assert_eq!(record[key], expected, "{record}");
        let result = &record["vogeler"]["results"][key];
        assert_eq!((&result["command"], &result["format"]), (&json!(alias), &json!(format)), "{record}");
    }
    site.expect_settled().await;
}

#[tokio::test]
async fn a_failure_stands_beside_the_last_good_data_until_a_success() {
    let site = Site::start("failure").await;
    let _server = site.server().await;
    let _client = client(&site, "failure01", &flaky(&site)).await;
    let run = ["-c", "flaky", "-n", "failure01"];

    // Good data before the exit status is no result.
    site.write("data", "free=1\n");
    site.write("broken", "");
    let failed = site.runner(&run).await.expect(2);
    assert!(failed.stdout.contains("exited with status 3"), "{failed:?}");
    assert!(failed.stdout.contains("flaky on failure01: 0 stored, 1 failed\n"), "{failed:?}");
    let record = site.record("failure01").await.unwrap();
    assert!(record.get("disk").is_none(), "{record}");

    fs::remove_file(site.path("broken")).unwrap();
    site.runner(&run).await.expect(0);
    site.write("data", "free=0\n");
    site.write("broken", "");
    site.runner(&run).await.expect(2);
    let record = site.record("failure01").await.unwrap();
    assert_eq!(record["disk"], json!({ "free": "1" }), "the last good data: {record}");
    let error = &record["vogeler"]["errors"]["disk"];
    for (field, expected) in [
        ("command", json!("flaky")),
        ("kind", json!("exit")),
        ("exit", json!(3)),
        ("message", json!("exited with status 3")),
        ("stderr", json!("the disk is on fire\n")),
    ] {
        assert_eq!(error[field], expected, "{field} of {error}");
    }
    let rows = site.view("errors", "by_kind", &[("reduce", json!(false))]).await.unwrap();
    assert!(rows.iter().any(|row| row["id"] == "failure01" && row["key"][0] == "exit"), "{rows:?}");

    fs::remove_file(site.path("broken")).unwrap();
    site.runner(&run).await.expect(0);
    let record = site.record("failure01").await.unwrap();
    assert_eq!(record["disk"], json!({ "free": "0" }), "{record}");
    assert!(record["vogeler"]["errors"]["disk"].is_null(), "a success clears the error: {record}");
    site.expect_settled().await;
}

#[tokio::test]
async fn a_broken_descriptor_is_named_and_the_others_serve_on() {
    let site = Site::start("broken").await;
    let _server = site.server().await;
    let node = site
        .node("broken01")
        .plugin("site.yaml", "good: {command: echo hi, format: string}\nbad:\n  command: echo hi\n  format: xml\n")
        .plugin("typo.yaml", "typo:\n  command: echo hi\n  comand: echo ho\n  format: string\n");
    let list = node.run(&["list"]).await.expect(1);
    let plugins = site.path("broken01/plugins");
    for place in ["site.yaml:2: bad: format \"xml\" is not one of json", "typo.yaml:3: "] {
        let line = format!("broken: {}/{place}", plugins.display());
        assert!(list.stdout.contains(&line), "{line}: {list:?}");
    }
    assert!(list.stdout.contains("comand"), "{list:?}");
    assert!(list.stdout.lines().any(|line| line.starts_with("good ")), "{list:?}");

    let _client = node.start().await;
    for alias in ["ping", "good"] {
        site.runner(&["-c", alias, "-n", "broken01"]).await.expect(0);
    }
    let record = site.record("broken01").await.unwrap();
    assert_eq!(record["good"], "hi", "{record}");
    assert!(record["ping"]["version"].is_string(), "{record}");
}

#[tokio::test]
async fn exec_prints_the_very_field() {
    let site = Site::start("exec").await;
    let _server = site.server().await;
    let _client = client(&site, "exec01", EACH_FORMAT).await;
    // A plugin's author has no broker at hand.
    let author = site.node("exec01").env("VOGELER_BROKER_URL", "amqp://127.0.0.1:1");
    for (alias, key) in [("mounts", "mounts"), ("release", "os_release"), ("limits", "limits")] {
        let printed = author.run(&["exec", alias]).await.expect(0);
        let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
        site.runner(&["-c", alias, "-n", "exec01"]).await.expect(0);
        let record = site.record("exec01").await.unwrap();
        assert_eq!(printed, json!({ key: record[key] }), "{record}");
    }

    site.write("data", "");
    site.write("broken", "");
    let author = site.node("exec02").plugin("site.yaml", &flaky(&site));
    let failed = author.run(&["exec", "flaky"]).await.expect(1);
    assert_eq!(failed.stdout, "", "{failed:?}");
    for words in ["exited with status 3", "the disk is on fire"] {
        assert!(failed.stderr.contains(words), "{words}: {failed:?}");
    }
}

#[tokio::test]
async fn a_plugin_added_later_is_known_after_hup() {
    let site = Site::start("hup").await;
    let _server = site.server().await;
    let agent = client(&site, "hup01", EACH_FORMAT).await;
    let run = ["-c", "late", "-n", "hup01"];
    site.write("hup01/plugins/late.yaml", "late: {command: echo better late, format: string, key: later}\n");
    site.runner(&run).await.expect(4);
    agent.signal(Signal::SIGHUP);
    eventually(async || {
        let record = site.record("hup01").await?;
        let aliases = &record["vogeler"]["client"]["aliases"];
        anyhow::ensure!(aliases["late"]["key"] == "later", "late among {aliases}; it said:\n{}", agent.log());
        anyhow::Ok(())
    })
    .await;
    site.runner(&run).await.expect(0);
    let record = site.record("hup01").await.unwrap();
    assert_eq!(record["later"], "better late", "{record}");
}

#[tokio::test]
async fn no_shell_sees_what_was_not_meant_for_one() {
    let site = Site::bare("shell").await;
    let trace = site.path("trace");
    for alias in [format!("ping; touch {}", trace.display()), format!("ping $(touch {})", trace.display())] {
        let refused = site.runner(&["-c", &alias, "-n", "all"]).await.expect(1);
        assert!(refused.stderr.contains("command alias \"ping"), "{refused:?}");
    }
    // Nor is there a way to hand an alias an argument.
    site.runner(&["-c", "ping", "now", "-n", "all"]).await.expect(1);

    let text = format!("literal: {{command: 'echo $HOME; touch {}', format: string}}\n", trace.display());
    let author = site.node("shell01").plugin("site.yaml", &text);
    let printed = author.run(&["exec", "literal"]).await.expect(0);
    assert!(printed.stdout.contains("$HOME; touch /"), "{printed:?}");
    assert!(!trace.exists(), "something ran touch");
}

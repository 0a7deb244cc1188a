//! Results from producers that are no client, and what becomes of those that are no results.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use vogeler_tests::program::{binary, command};
use vogeler_tests::{Outcome, Site, eventually};

/// Runs a script in the site's folder, with its broker as `$AMQP_URL` and our programs in the `PATH`.
async fn shell(site: &Site, script: &str) -> Outcome {
    let mut url = site.services.amqp.clone();
    url.set_path(&format!("/{}", site.vhost));
    let programs = binary("vogeler-client").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = command("sh");
    shell.args(["-c", script]).current_dir(site.path("")).env("PATH", path).env("AMQP_URL", url.as_str());
    Outcome::of(shell.env("VOGELER_CONFIG", site.path("vogeler.yaml"))).await
}

/// A node's record once it has that key.
async fn record_with(site: &Site, node: &str, key: &str) -> Value {
    eventually(async || {
        let record = site.record(node).await?;
        anyhow::ensure!(!record[key].is_null(), "{key} in {record}");
        anyhow::Ok(record)
    })
    .await
}

const MOUNTS: &str = r#"# As some command prints it.
- path: "/"
  note: 'it''s "quoted"; $HOME, `id` and \n stay'
- path: /home
  text: |
    many
    lines: yes
"#;

/// Debian's amqp-tools send headers from version 0.11 on.
#[tokio::test]
async fn amqp_publish_sends_what_a_command_prints() {
    let site = Site::start("amqp-publish").await;
    let _server = site.server().await;
    site.write("mounts.yaml", MOUNTS);
    let script = r#"cat mounts.yaml | amqp-publish --url "$AMQP_URL" --persistent \
        -e vogeler.master.in -r "$(vogeler-client slot outside01)" \
        -H "vogeler-node: outside01" -H "vogeler-command: mounts" -H "vogeler-key: file systems" -H "vogeler-format: yaml""#;
    shell(&site, script).await.expect(0);
    let record = record_with(&site, "outside01", "file systems").await;
    let expected = json!([
        { "path": "/", "note": r#"it's "quoted"; $HOME, `id` and \n stay"# },
        { "path": "/home", "text": "many\nlines: yes\n" },
    ]);
    assert_eq!(record["file systems"], expected, "{record}");
    let result = &record["vogeler"]["results"]["file systems"];
    assert_eq!((&result["command"], &result["format"]), (&json!("mounts"), &json!("yaml")), "{record}");
    site.expect_settled().await;
}

const FIVE_LINES: &str = r#"import json, os, pika
result = {"v": 1, "node": "outside02", "command": "disk", "outcome": "ok", "data": {"free": 1.5, "on": ["/", "/home"]}}
channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
channel.basic_publish("vogeler.master.in", os.environ["SLOT"], json.dumps(result), properties)
"#;

/// Debian's own Python, which has Debian's pika.
#[tokio::test]
async fn a_python_script_of_five_lines_sends_json() {
    let site = Site::start("python").await;
    let _server = site.server().await;
    site.write("five_lines.py", FIVE_LINES);
    let script = r#"SLOT="$(vogeler-client slot outside02)" /usr/bin/python3 five_lines.py"#;
    shell(&site, script).await.expect(0);
    let record = record_with(&site, "outside02", "disk").await;
    assert_eq!(record["disk"], json!({ "free": 1.5, "on": ["/", "/home"] }), "{record}");
    assert_eq!(record["vogeler"]["results"]["disk"]["command"], "disk", "{record}");
    site.expect_settled().await;
}

#[tokio::test]
async fn what_is_no_result_goes_to_the_dead_letters_and_says_why() {
    const NO_JSON: &str = "words, not JSON";
    const NEXT_VERSION: &str = r#"{"v":2,"node":"outside03","command":"c","outcome":"ok","data":1}"#;
    let site = Site::start("dead").await;
    let _server = site.server().await;
    let publish = r#"amqp-publish --url "$AMQP_URL" -p -e vogeler.master.in -r "$(vogeler-client slot outside03)""#;
    let headers = r#"-H "vogeler-node: outside03" -H "vogeler-command: words""#;
    for (body, how) in [
        (NO_JSON, "-C application/json".to_owned()),
        (NEXT_VERSION, "-C application/json".to_owned()),
        ("of the next version", format!("{headers} -H 'vogeler-v: 2'")),
        ("of this version", format!("{headers} -H 'vogeler-v: 1'")),
    ] {
        site.write("body", body);
        shell(&site, &format!("cat body | {publish} {how}")).await.expect(0);
    }
    // The good one behind them lands.
    let record = record_with(&site, "outside03", "words").await;
    assert_eq!(record["words"], "of this version", "{record}");

    eventually(async || {
        let waiting = site.queue("vogeler.dead").await?.messages;
        anyhow::ensure!(waiting == 3, "three dead letters; there are {waiting}");
        anyhow::Ok(())
    })
    .await;
    let path = format!("/api/queues/{}/vogeler.dead/get", site.vhost);
    let how = json!({ "count": 10, "ackmode": "ack_requeue_true", "encoding": "auto" });
    let letters = site.services.manage(Method::POST, &path, Some(how)).await.unwrap();
    let letters: BTreeMap<&str, &Value> = letters
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| (letter["payload"].as_str().unwrap(), &letter["properties"]["headers"]))
        .collect();
    for (body, reason, detail) in [
        (NO_JSON, "not_a_result", "the message is no result"),
        (NEXT_VERSION, "not_a_result", "message version 2 is unknown"),
        ("of the next version", "unknown_version", "message version \"2\" is unknown"),
    ] {
        let headers = letters[body];
        assert_eq!(headers["vogeler-reason"], reason, "{headers}");
        assert!(headers["vogeler-detail"].as_str().unwrap().contains(detail), "{detail}: {headers}");
        assert_eq!(headers["vogeler-exchange"], "vogeler.master.in", "{headers}");
    }
}

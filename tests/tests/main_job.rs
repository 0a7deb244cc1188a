//! The sentence that the system exists for, on real input, and the questions asked of what it stored.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use vogeler_tests::program::command;
use vogeler_tests::site::workspace;
use vogeler_tests::{Outcome, Program, Site, eventually};

/// Waits until these have said hello: before that a runner cannot know that they are there.
async fn introduced(site: &Site, nodes: &[&str]) {
    for node in nodes {
        eventually(async || {
            let record = site.record(node).await?;
            anyhow::ensure!(record["vogeler"]["client"].is_object(), "{node} said hello: {record}");
            anyhow::Ok(())
        })
        .await;
    }
}

/// An rpm database of our own with two packages that are built here: its folder. Nothing is
/// written outside of the site's.
async fn rpm_database(site: &Site) -> PathBuf {
    let (top, database) = (site.path("rpmbuild"), site.path("rpmdb"));
    let define = |name: &str| format!("--define={name} {}", top.display());
    let dbpath = format!("--dbpath={}", database.display());
    for (name, version, release) in [("vogeler-one", "1.0", "1"), ("vogeler-two", "2.5", "3")] {
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A package of a test\n\
             License: Apache-2.0\nBuildArch: noarch\n%description\nA package of a test.\n%files\n"
        );
        let spec = site.write(&format!("rpmbuild/{name}.spec"), &spec);
        let mut build = command("rpmbuild");
        build.env("HOME", &top).args(["-bb", &define("_topdir"), &define("_tmppath"), &dbpath]).arg(spec);
        Outcome::of(&mut build).await.expect(0);
        let package = top.join(format!("RPMS/noarch/{name}-{version}-{release}.noarch.rpm"));
        let mut install = command("rpm");
        install.env("HOME", &top).args(["-i", "--nodeps", "--justdb", &dbpath]).arg(package);
        Outcome::of(&mut install).await.expect(0);
    }
    database
}

#[tokio::test]
async fn rpms_of_three_nodes_fill_three_records() {
    const NODES: [&str; 3] = ["rpm01", "rpm02", "rpm03"];
    let site = Site::start("rpms").await;
    let database = rpm_database(&site).await;
    // The descriptor that ships, but for the database.
    let shipped = fs::read_to_string(workspace().join("plugins/rpms.yaml")).unwrap();
    let ours = shipped.replace("rpm -qa", &format!("rpm --dbpath={} -qa", database.display()));
    assert_ne!(ours, shipped, "plugins/rpms.yaml runs rpm -qa");
    let _server = site.server().await;
    let mut clients: Vec<Program> = Vec::new();
    for node in NODES {
        clients.push(site.node(node).plugin("rpms.yaml", &ours).start().await);
    }
    introduced(&site, &NODES).await;

    let ran = site.runner(&["-c", "rpms", "-n", "all"]).await.expect(0);
    assert!(ran.stdout.contains("rpms on all: 3 stored\n"), "{ran:?}");

    for node in NODES {
        let record = site.record(node).await.unwrap();
        assert_eq!(record["packages"], json!({ "vogeler-one": "1.0-1", "vogeler-two": "2.5-3" }), "{record}");
        assert_eq!(record["vogeler"]["results"]["packages"]["command"], "rpms", "{record}");
    }
    let having =
        [("reduce", json!(false)), ("startkey", json!(["vogeler-one"])), ("endkey", json!(["vogeler-one", {}]))];
    let rows = site.view("packages", "by_name", &having).await.unwrap();
    let expected: Vec<Value> =
        NODES.iter().map(|node| json!({ "id": node, "key": ["vogeler-one", "1.0-1"], "value": null })).collect();
    assert_eq!(rows, expected, "which nodes have vogeler-one");
    site.expect_settled().await;
}

#[tokio::test]
async fn packages_of_this_machine() {
    let site = Site::start("packages").await;
    let _server = site.server().await;
    let _client = site.node("packages01").shipped(&["packages"]).start().await;
    introduced(&site, &["packages01"]).await;
    site.runner(&["-c", "packages", "-n", "all"]).await.expect(0);
    let record = site.record("packages01").await.unwrap();
    assert!(record["packages"]["dpkg"].is_string(), "dpkg is among the packages: {record}");
}

#[tokio::test]
async fn facter_on_freshly_started_clients() {
    const NODES: [&str; 2] = ["facter01", "facter02"];
    let site = Site::start("facter").await;
    let _server = site.server().await;
    let mut clients: Vec<Program> = Vec::new();
    for node in NODES {
        clients.push(site.node(node).shipped(&["facter"]).start().await);
    }
    introduced(&site, &NODES).await;
    let ran = site.runner(&["-c", "facter", "-n", "all"]).await.expect(0);
    assert!(ran.stdout.contains("facter on all: 2 stored\n"), "{ran:?}");
    for node in NODES {
        let record = site.record(node).await.unwrap();
        assert_eq!(record["facter"]["os"]["family"], "Debian", "{record}");
    }
}

const JMX: &str = r"#!/bin/sh
printf '%s\n' '- instance: a' '  port: 9999' '- instance: b' '  port: 10000'
";

const BY_PORT: &str = "function (doc) {
  (doc.jmx || []).forEach(function (java) {
    emit(java.port, java.instance);
  });
}
";

#[tokio::test]
async fn jmx_with_a_key_format_and_design_document_of_ones_own() {
    let site = Site::start("jmx").await;
    let _server = site.server().await;
    let script = site.write("jmx.sh", JMX);
    let descriptor = format!("our_jmx: {{command: {}, format: yaml, key: jmx}}\n", script.display());
    let _client = site.node("jmx01").plugin("jmx.yaml", &descriptor).start().await;
    introduced(&site, &["jmx01"]).await;
    site.runner(&["-c", "our_jmx", "-n", "all"]).await.expect(0);
    let record = site.record("jmx01").await.unwrap();
    let instances = json!([{ "instance": "a", "port": 9999 }, { "instance": "b", "port": 10000 }]);
    assert_eq!(record["jmx"], instances, "{record}");

    let docs = site.path("docs");
    let load = ["load", docs.to_str().unwrap()];
    site.write("docs/our_jmx/views/by_port/map.js", BY_PORT);
    let loads = async |expected: &str| {
        let loaded = site.run("vogeler-server", &load).await.expect(0);
        assert!(loaded.stdout.contains(&format!("_design/our_jmx: {expected}")), "{loaded:?}");
    };
    let answers = async || {
        let rows = site.view("our_jmx", "by_port", &[]).await.unwrap();
        rows.iter().map(|row| json!([row["key"], row["value"]])).collect::<Vec<Value>>()
    };
    loads("loaded").await;
    loads("there already").await;
    assert_eq!(answers().await, [json!([9999, "a"]), json!([10000, "b"])]);
    let by_instance = BY_PORT.replace("java.port, java.instance", "java.instance, java.port");
    site.write("docs/our_jmx/views/by_port/map.js", &by_instance);
    loads("changed").await;
    assert_eq!(answers().await, [json!(["a", 9999]), json!(["b", 10000])]);

    let typo = site.write("docs/our_jmx/views/by_port/map.js", "function (doc) {\n  emit(doc._id, null;\n}\n");
    let refused = site.run("vogeler-server", &load).await.expect(1);
    assert!(refused.stderr.contains(&format!("{}:2: ", typo.display())), "file and line: {refused:?}");
    assert_eq!(answers().await, [json!(["a", 9999]), json!(["b", 10000])], "what was there answers on");
}

#[tokio::test]
async fn the_shipped_views_answer() {
    let site = Site::start("views").await;
    let fixture = fs::read_to_string(workspace().join("tests/fixtures/design-docs.json")).unwrap();
    let fixture: Value = serde_json::from_str(&fixture).unwrap();
    let path = format!("/{}/_bulk_docs", site.database);
    let docs = json!({ "docs": fixture["records"] });
    let fates = site.services.couch(Method::POST, &path, Some(docs)).await.unwrap();
    assert!(fates.as_array().unwrap().iter().all(|fate| fate["rev"].is_string()), "every record is stored: {fates}");

    // Reduced rows have no id.
    let told = |rows: &[Value]| rows.iter().map(|row| json!([row["id"], row["key"], row["value"]])).collect::<Vec<_>>();
    let mut wrong = Vec::new();
    let questions = fixture["questions"].as_array().unwrap();
    for question in questions {
        let (asks, expected) = (question["asks"].as_str().unwrap(), told(question["rows"].as_array().unwrap()));
        let query = question["query"].as_object().unwrap();
        let query: Vec<(&str, Value)> = query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let (design, view) = (question["ddoc"].as_str().unwrap(), question["view"].as_str().unwrap());
        match site.view(design, view, &query).await {
            Ok(rows) if told(&rows) == expected => {}
            Ok(rows) => wrong.push(format!("{asks}\n  answered {rows:?}\n  expected {expected:?}")),
            Err(reason) => wrong.push(format!("{asks}\n  {design}/{view} does not answer: {reason:#}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} questions:\n{}", wrong.len(), questions.len(), wrong.join("\n"));
}

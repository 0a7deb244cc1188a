//! The whole with no more rights than each part needs, over TLS; and passwords, which do not show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use vogeler_tests::program::{binary, command};
use vogeler_tests::site::workspace;
use vogeler_tests::tls::TlsProxy;
use vogeler_tests::{Outcome, Services, Site, eventually};

/// A login of the broker with the rights of a role; gone when it is dropped.
struct Login {
    services: Services,
    name: String,
    password: String,
}

impl Login {
    /// Makes it, with the rights that `packaging/rabbitmq` says the role has.
    async fn of(role: &str, site: &Site) -> Self {
        let login = Self {
            services: site.services.clone(),
            name: format!("{role}-{}", site.vhost),
            password: uuid::Uuid::new_v4().simple().to_string(),
        };
        login.put("users", &json!({ "password": login.password, "tags": "" })).await;
        for rights in rights("permissions", role) {
            login.put(&format!("permissions/{}", site.vhost), &rights).await;
        }
        for rights in rights("topic-permissions", role) {
            login.put(&format!("topic-permissions/{}", site.vhost), &rights).await;
        }
        login
    }

    async fn put(&self, what: &str, body: &Value) {
        let path = format!("/api/{what}/{}", self.name);
        self.services.manage(Method::PUT, &path, Some(body.clone())).await.unwrap();
    }

    /// The section `broker` of a program with this login.
    fn section(&self, site: &Site) -> String {
        let mut url = site.services.amqps.clone();
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        section("broker", url.as_str(), &self.name, &self.password, site) + &format!("  vhost: {}\n", site.vhost)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let (services, path) = (self.services.reconnected(), format!("/api/users/{}", self.name));
        // A runtime of its own: the test's may be the one that unwinds.
        let cleaning = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(services.manage(Method::DELETE, &path, None));
        });
        let _ = cleaning.join();
    }
}

/// What a role may do, from a file that ships.
fn rights(file: &str, role: &str) -> Vec<Value> {
    let text = fs::read_to_string(workspace().join(format!("packaging/rabbitmq/{file}.json"))).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let of_role: Vec<Value> = all.into_iter().filter(|rights| rights["role"] == role).collect();
    assert!(!of_role.is_empty(), "{file}.json names the role {role}");
    of_role
}

/// A section that trusts the services' CA and has its password in a file.
fn section(name: &str, url: &str, username: &str, password: &str, site: &Site) -> String {
    let file = site.write(&format!("{username}.password"), &format!("{password}\n"));
    let (file, ca) = (file.display(), site.services.tls_dir.join("ca.pem"));
    let ca = ca.display();
    format!("{name}:\n  url: {url}\n  username: {username}\n  password_file: {file}\n  ca_file: {ca}\n")
}

#[tokio::test]
async fn the_whole_under_the_rights_of_each_role_over_tls() {
    let site = Site::bare("secured").await;
    let (server, runner, node) =
        (Login::of("server", &site).await, Login::of("runner", &site).await, Login::of("node", &site).await);
    let couch = &site.services.couchdb;
    let behind = format!("{}:{}", couch.host_str().unwrap(), couch.port_or_known_default().unwrap());
    let proxy = TlsProxy::start(&site.services.tls_dir, behind).await;
    let url = format!("https://localhost:{}", proxy.port);
    let password = couch.password().unwrap_or_default();
    let store = section("store", &url, couch.username(), password, &site) + &format!("  database: {}\n", site.database);
    let docs = format!("server:\n  design_docs: {}\n", workspace().join("design-docs").display());
    let of_server = site.write("server.yaml", &format!("{}{store}{docs}", server.section(&site)));
    let of_runner = site.write("runner.yaml", &format!("{}{store}", runner.section(&site)));
    // A node knows nothing of the database.
    let of_node = site.write("node.yaml", &node.section(&site));
    let [of_server, of_runner, of_node] = [&of_server, &of_runner, &of_node].map(|path| path.to_str().unwrap());

    let set_up = site.run("vogeler-server", &["setup", "--config", of_server]).await.expect(0);
    assert!(set_up.stdout.contains("database: created"), "{set_up:?}");
    let checked = site.run("vogeler-server", &["check", "--config", of_server]).await.expect(0);
    assert!(checked.stdout.contains("amqps://") && checked.stdout.contains(&server.name), "{checked:?}");
    let started = site.server_with(&[("VOGELER_CONFIG", of_server)]).await;

    let secured = site
        .node("secured01")
        .groups("web")
        .env("VOGELER_CONFIG", of_node)
        .plugin("hello.yaml", "hello: {command: echo hi, format: string}\n");
    let checked = secured.run(&["check"]).await.expect(0);
    assert!(checked.stdout.contains("amqps://") && checked.stdout.contains(&node.name), "{checked:?}");
    let client = secured.start().await;
    eventually(async || {
        let record = site.record("secured01").await?;
        anyhow::ensure!(record["vogeler"]["client"].is_object(), "secured01 said hello: {record}");
        anyhow::Ok(())
    })
    .await;

    for target in ["all", "secured01", "group:web", "sec*"] {
        let run = ["--config", of_runner, "-c", "hello", "-n", target];
        let ran = site.run("vogeler-runner", &run).await.expect(0);
        assert!(ran.stdout.contains("  secured01: "), "{ran:?}");
        hides(&ran.stderr, &[&server.password, &runner.password, &node.password]);
    }
    let record = site.record("secured01").await.unwrap();
    assert_eq!(record["hello"], "hi", "{record}");
    assert_eq!(record["vogeler"]["results"]["hello"]["login"], node.name.as_str(), "{record}");

    for said in [started.log(), client.log()] {
        hides(&said, &[&server.password, &runner.password, &node.password]);
    }
    site.expect_settled().await;
}

/// Asserts that none of these words is in what a program said.
#[track_caller]
fn hides(said: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!said.contains(secret), "the password {secret} shows:\n{said}");
    }
}

const IN_FILE: &str = "broker:
  url: amqp://ops:first-secret@127.0.0.1:1
  password: second-secret
store:
  url: http://ops:third-secret@127.0.0.1:1
  password: fourth-secret
";

const SECRETS: [&str; 5] = ["first-secret", "second-secret", "third-secret", "fourth-secret", "fifth-secret"];

async fn run_with(config: &Path, program: &str, args: &[&str]) -> Outcome {
    let mut command = command(binary(program));
    command.env("VOGELER_CONFIG", config).env("VOGELER_BROKER_PASSWORD", "fifth-secret").args(args);
    let outcome = Outcome::of(&mut command).await;
    hides(&outcome.stdout, &SECRETS);
    hides(&outcome.stderr, &SECRETS);
    outcome
}

#[tokio::test]
async fn passwords_do_not_show() {
    let site = Site::bare("secrets").await;
    let config = site.write("secrets.yaml", IN_FILE);
    for program in ["vogeler-server", "vogeler-client", "vogeler-runner"] {
        let shown = run_with(&config, program, &["config"]).await.expect(0);
        for line in
            ["broker.url = amqp://ops:(hidden)@127.0.0.1:1 ", "broker.password = (hidden)  # VOGELER_BROKER_PASSWORD\n"]
        {
            assert!(shown.stdout.contains(line), "{line}: {shown:?}");
        }
    }
    // Nor where something goes wrong.
    run_with(&config, "vogeler-server", &["check"]).await.expect(1);
    run_with(&config, "vogeler-runner", &["-c", "ping", "-n", "all"]).await.expect(1);

    // One in a flag is refused: everybody who lists processes would see it.
    for (program, flag, url, section) in [
        ("vogeler-server", "--qhost", "amqp://u:first-secret@h", "broker"),
        ("vogeler-client", "--amqp-url", "amqp://u:first-secret@h", "broker"),
        ("vogeler-runner", "--qhost", "amqp://u:first-secret@h", "broker"),
        ("vogeler-server", "--dbhost", "couch://u:first-secret@h", "store"),
        ("vogeler-runner", "--couchdb-url", "http://u:first-secret@h", "store"),
    ] {
        let refused = run_with(&config, program, &["config", flag, url]).await.expect(1);
        let variable = format!("VOGELER_{}_PASSWORD", section.to_uppercase());
        for words in [format!("{section}.password"), variable] {
            assert!(refused.stderr.contains(&words), "{words}: {refused:?}");
        }
    }
}

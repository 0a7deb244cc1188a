//! The worked examples of README.md do what they say there.
//!
//! Every block that begins with `$ ` is typed into a shell, in order, over one site; what a shell prints has to be what
//! stands there, times, ages and ids aside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use clap::Parser as _;
use regex::Regex;
use vogeler_messaging::{Message, Properties, Publish, Session as _, Topology};
use vogeler_tests::program::binary;
use vogeler_tests::site::workspace;
use vogeler_tests::{Outcome, Program, Site, eventually};

/// One `$ ` line and what it prints.
struct Example {
    command: String,
    printed: String,
}

/// The blocks of the page that are typed into a shell.
fn examples(page: &str) -> Vec<Vec<Example>> {
    let mut blocks = Vec::new();
    let mut rest = page.split("\n```");
    while let (Some(_), Some(block)) = (rest.next(), rest.next()) {
        let Some(lines) = block.strip_prefix('\n').filter(|lines| lines.starts_with("$ ")) else { continue };
        let mut examples: Vec<Example> = Vec::new();
        for line in lines.lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push(Example { command: command.to_owned(), printed: String::new() }),
                (None, Some(last)) => last.printed.push_str(&format!("{line}\n")),
                (None, None) => unreachable!("the block begins with a command"),
            }
        }
        blocks.push(examples);
    }
    blocks
}

/// What differs each time, out of the way.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, word) in [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"\b\d+ ?(ms|s|min|m|h|d|seconds|minutes|hours|days)\b", "AGE"),
        (r"[ \t]+", " "),
        (r" ?\n", "\n"),
        (r"[─━┄]+", "─"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text
}

/// Types the block into a shell.
async fn type_in(site: &Site, block: &[Example]) {
    let mut script = String::new();
    for example in block {
        script.push_str(&format!("printf '\\0'\n{}\n", example.command));
    }
    let mut shell = site.command("vogeler-runner", &[]);
    let folder = binary("vogeler-runner").parent().unwrap().display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let env: Vec<_> =
        shell.as_std().get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    shell = tokio::process::Command::new("bash");
    for (name, value) in env {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    // `vogeler` leaves its files where it is typed.
    shell.current_dir(site.path(""));
    shell.env("PATH", path).env("COLUMNS", "120").args(["--norc", "-c", &script]);
    let typed = Outcome::of(&mut shell).await;
    let printed: Vec<&str> = typed.stdout.split('\0').skip(1).collect();
    assert_eq!(printed.len(), block.len(), "{typed:?}");
    let differ = |(example, printed): &(&Example, &str)| plain(printed) != plain(&example.printed);
    let faults: Vec<String> = block
        .iter()
        .zip(printed)
        .filter(differ)
        .map(|(example, printed)| {
            format!("$ {}\n{printed}--- where README.md has\n{}", example.command, example.printed)
        })
        .collect();
    assert!(faults.is_empty(), "{}\n--- beside it said\n{}", faults.join("\n"), typed.stderr);
}

const RPMS: &str = r#"{"bash": "5.1.8-9", "glibc": "2.34-100", "openssl": "3.0.7-27"}"#;
const NEWER: &str = r#"{"bash": "5.1.8-9", "glibc": "2.34-100", "openssl": "3.0.7-28"}"#;

fn rpms(packages: &str) -> String {
    format!("rpms: {{command: 'echo ''{packages}''', key: packages, format: json}}\n")
}

#[tokio::test]
async fn the_examples_of_the_page_print_what_it_says() {
    let page = fs::read_to_string(workspace().join("README.md")).unwrap();
    let blocks = examples(&page);
    let site = Site::start("readme").await;
    let _server = site.server().await;
    let start = async |name: &str, plugin: &str| -> Program {
        let node = format!("{name}.example.com");
        let group = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let client = site.node(&node).groups(group).plugin("site.yaml", plugin).start().await;
        eventually(async || site.record(&node).await).await;
        client
    };
    let mut clients = Vec::new();
    for name in ["app01", "db01", "web01"] {
        clients.push(start(name, &rpms(RPMS)).await);
    }
    let [first, reasons, questions @ ..] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    type_in(&site, first).await;

    for client in clients.drain(..) {
        client.stop().await;
    }
    clients.push(start("app01", "facts: {command: 'echo {}', format: json}\n").await);
    clients.push(
        start(
            "web03",
            "rpms: {command: 'sh -c \"echo rpm: no such file >&2; exit 3\"', key: packages, format: json}\n",
        )
        .await,
    );
    clients.push(start("db01", &rpms(NEWER)).await);
    clients.push(start("web01", &rpms(NEWER)).await);
    start("db02", &rpms(RPMS)).await.stop().await;
    type_in(&site, reasons).await;

    let [asked @ .., letters] = questions else { panic!("{} blocks of questions", questions.len()) };
    for block in asked {
        type_in(&site, block).await;
    }

    let body = br#"{"v": 1, "node": "web01.example.com", "command": "motd", "outcome": "well"}"#.to_vec();
    let properties = Properties {
        message_id: Some("5d2f0c3e-7a51-4c58-9a43-2f6f1f6b0f11".to_owned()),
        content_type: Some("application/json".to_owned()),
        kind: Some("result".to_owned()),
        ..Properties::default()
    };
    let (session, exchange) = (site.session().await, Topology::default().master);
    let message = Message { body, properties };
    session.publish(Publish { exchange: &exchange, routing_key: "slot.0", mandatory: true, message }).await.unwrap();
    eventually(async || {
        let waiting = site.messages("vogeler.dead").await?;
        anyhow::ensure!(waiting == 1, "a dead letter");
        anyhow::Ok(())
    })
    .await;
    type_in(&site, letters).await;
}

#[test]
fn the_commands_of_the_page_exist() {
    let page = fs::read_to_string(workspace().join("README.md")).unwrap();
    let mut known = 0;
    let mut blocks = page.split("\n```");
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        for line in block.strip_prefix("sh\n").unwrap_or_default().lines() {
            let line = line.split("  #").next().unwrap_or_default();
            let Ok(words) = shell_words::split(line) else { continue };
            let parsed = match words.first().map(String::as_str) {
                Some("vogeler-runner") => vogeler_runner::cli::Cli::try_parse_from(words).map(drop),
                Some("vogeler-server") => vogeler_server::cli::Cli::try_parse_from(words).map(drop),
                Some("vogeler-client") => vogeler_client::cli::Cli::try_parse_from(words).map(drop),
                _ => continue,
            };
            parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            known += 1;
        }
    }
    assert!(known > 5, "{known} commands");
}

//! What an operator's shell and `man` know of the programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use vogeler_tests::program::{binary, command};
use vogeler_tests::{Outcome, Site, eventually};

const PLUGINS: &str = "hello: {command: echo hi, format: string}\n";

/// What a TAB after these words gives: values, and what is said of each.
async fn tab(site: &Site, words: &[&str]) -> Vec<String> {
    let words: Vec<&str> = ["--", "vogeler-runner"].iter().chain(words).copied().collect();
    let mut asked = site.command("vogeler-runner", &words);
    let answered = Outcome::of(asked.env("COMPLETE", "fish")).await.expect(0);
    assert!(answered.stderr.is_empty(), "{answered:?}");
    answered.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_shell_completes_nodes_groups_aliases_and_runs() {
    let site = Site::start("tab").await;
    let _server = site.server().await;
    let _web = site.node("web01").groups("web,canary").plugin("hello.yaml", PLUGINS).start().await;
    let _db = site.node("db01").groups("db").plugin("hello.yaml", PLUGINS).start().await;
    for node in ["web01", "db01"] {
        eventually(async || site.record(node).await).await;
    }
    site.runner(&["-c", "hello", "-n", "all"]).await.expect(0);
    assert_eq!(tab(&site, &["-c", ""]).await, ["hello\t2 nodes", "ping"]);
    assert_eq!(tab(&site, &["--command", "he"]).await, ["hello\t2 nodes"]);
    let all = tab(&site, &["-c", "hello", "-n", ""]).await;
    for word in ["all", "web01", "db01", "group:web\t1 node", "group:db\t1 node", "group:canary\t1 node"] {
        assert!(all.iter().any(|candidate| candidate == word), "{word}: {all:?}");
    }
    assert_eq!(tab(&site, &["-c", "hello", "-n", "group:db,!we"]).await, ["group:db,!web01"]);
    for words in [&["show", "we"][..], &["diff", "db01", "we"], &["retire", "we"], &["nodes", "we"]] {
        assert_eq!(tab(&site, words).await, ["web01"], "{words:?}");
    }
    let run = &tab(&site, &["status", ""]).await[0];
    assert!(site.runner(&["status", run]).await.expect(0).stdout.contains("2 stored"));
    assert!(tab(&site, &["nod"]).await[0].starts_with("nodes"));
    // Flags of the line so far count, and a database that is away is no reason to say anything.
    assert_eq!(tab(&site, &["--dbhost", "http://127.0.0.1:1", "-c", "hello", "-n", "a"]).await, ["all"]);
    assert_eq!(tab(&site, &["--config", "/nowhere/vogeler.yaml", "-c", "p"]).await, ["ping"]);
}

#[tokio::test]
async fn the_files_for_man_and_shells_are_whole() {
    let site = Site::start("manuals").await;
    let _server = site.server().await;
    let folder = site.path("manuals");
    Outcome::of(command(binary("vogeler-manuals")).arg(&folder)).await.expect(0);
    for (page, words) in [
        ("vogeler-runner.1", ["exit status is 0", "dry\\-run"]),
        ("vogeler-runner-diff.1", ["Compare the records of two nodes", "NODE_A"]),
        ("vogeler-server-dead-replay.1", ["Send them back", "reason"]),
        ("vogeler-client.1", ["Runs in the foreground", "oneshot"]),
    ] {
        let text = fs::read_to_string(folder.join("man/man1").join(page)).unwrap();
        for word in words {
            assert!(text.contains(word), "{word} in {page}:\n{text}");
        }
    }
    // bash is where the tests run anyway; what it makes of the file is what a person sees.
    let script = format!(
        "set -e; PATH={}:$PATH; . {}; for file in {}; do . $file; done; complete -p vogeler-server vogeler-client >&2; \
         COMP_WORDS=(vogeler-runner -c p); COMP_CWORD=2; _clap_complete_vogeler_runner vogeler-runner p -c; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        binary("vogeler-runner").parent().unwrap().display(),
        folder.join("completions/bash/vogeler-runner.bash").display(),
        folder.join("completions/bash/*.bash").display(),
    );
    let mut bash = command("bash");
    bash.env("VOGELER_CONFIG", site.path("vogeler.yaml")).args(["--norc", "-c", &script]);
    let completed = Outcome::of(&mut bash).await.expect(0);
    assert_eq!(completed.stdout, "ping\n", "{completed:?}");
}

//! `vogeler`, the whole in one process, with no broker and no database beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use vogeler_tests::program::{Outcome, binary, command};
use vogeler_tests::{Program, eventually};

/// A folder to be in, as a person would.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = command(binary("vogeler"));
        command.current_dir(self.path()).args(words);
        command
    }

    async fn vogeler(&self, words: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(words)).await
    }

    fn plugins(&self, descriptors: &str) {
        fs::create_dir_all(self.path().join("mine/bin")).unwrap();
        fs::write(self.path().join("mine/all.yaml"), descriptors).unwrap();
    }
}

/// The commands that an answer tells to type.
fn told(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().filter(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_once("   vogeler ")).map(|(_, words)| words.to_owned()).collect()
}

#[tokio::test]
async fn the_first_look_finds_facts_and_what_it_says_to_ask_next_is_answered() {
    let desk = Desk::new();
    let first = desk.vogeler(&[]).await.expect(0);
    assert!(first.stdout.starts_with("facts on ") && first.stdout.contains(": 1 stored\n"), "{first:?}");
    assert!(first.stdout.contains(" of memory\n"), "what it found: {first:?}");
    assert_eq!(first.stderr, "");
    let asked = told(&first.stdout);
    assert!(asked.len() >= 5, "{asked:?}");
    for line in asked {
        let words = shell_words::split(&line).unwrap();
        let answer = desk.vogeler(&words.iter().map(String::as_str).collect::<Vec<_>>()).await.expect(0);
        assert!(answer.stdout.lines().count() >= 2, "{line}: {answer:?}");
    }
    let mut left: Vec<_> = fs::read_dir(desk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["vogeler.db", "vogeler.db.d"]);
    let again = desk.vogeler(&[]).await.expect(0);
    assert!(again.stdout.contains("packages on "), "{again:?}");
}

#[tokio::test]
async fn a_fleet_answers_as_many_machines_would() {
    let desk = Desk::new();
    let fleet = desk.vogeler(&["--nodes", "20", "-c", "facts", "-o", "json"]).await.expect(0);
    let report: Value = serde_json::from_str(&fleet.stdout).unwrap();
    assert_eq!((&report["stored"], report["nodes"].as_object().unwrap().len()), (&20.into(), 20), "{report}");
    let web = desk.vogeler(&["--nodes", "20", "-n", "group:web,!web01.example.com", "-c", "ping"]).await.expect(0);
    assert!(web.stdout.starts_with("ping on group:web,!web01.example.com: 6 stored\n"), "{web:?}");
    let groups = desk.vogeler(&["view", "system_records/by_group", "--group", "-o", "csv"]).await.expect(0);
    assert_eq!(groups.stdout, "key,value\napp,7\ndb,6\nweb,7\n", "{groups:?}");
    let found = desk.vogeler(&["find", "exists ping && exists facts.os.id", "-o", "json"]).await.expect(0);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 6, "{found}");
    let nodes = desk.vogeler(&["nodes", "-o", "csv"]).await.expect(0);
    assert_eq!(nodes.stdout.lines().count(), 21, "{nodes:?}");
    assert!(nodes.stderr.contains("between runs none has a queue"), "{nodes:?}");
    let same = desk.vogeler(&["diff", "web02.example.com", "web03.example.com", "facts.os"]).await.expect(0);
    assert!(!same.stdout.contains("facts.os"), "{same:?}");
    let last = desk.vogeler(&["status"]).await.expect(0);
    assert!(last.stdout.contains("ping on group:web,!web01.example.com: 6 stored"), "{last:?}");
    desk.vogeler(&["retire", "app01.example.com", "--yes"]).await.expect(0);
    assert_eq!(desk.vogeler(&["nodes", "-o", "csv"]).await.expect(0).stdout.lines().count(), 20);
}

#[tokio::test]
async fn plugins_of_ones_own_are_tried_and_told_what_is_wrong_with_them() {
    let desk = Desk::new();
    desk.plugins(
        "mine: {command: ./say, format: json}\nloud: {command: 'sh -c \"echo oops >&2; exit 3\"', format: string}\nodd: {command: echo, colour: red}\n",
    );
    let ran = desk.vogeler(&["--plugins", "mine", "-c", "loud", "-c", "odd"]).await.expect(4);
    assert!(ran.stdout.contains("failed: exited with status 3: oops"), "{ran:?}");
    assert!(ran.stdout.contains("refused: unknown alias"), "{ran:?}");
    assert!(ran.stderr.contains("mine/all.yaml:3: odd: ") && ran.stderr.contains("colour"), "{ran:?}");
    let errors = desk.vogeler(&["errors", "-o", "csv"]).await.expect(0);
    assert!(errors.stdout.contains("loud") && errors.stdout.contains("oops"), "{errors:?}");
}

#[tokio::test]
async fn what_makes_no_sense_here_is_said() {
    let desk = Desk::new();
    for (words, said) in [
        (&["find", "a == 1"][..], "there are no records in vogeler.db yet"),
        (&["-c", "ping", "--detach"], "nobody would be left to answer"),
        (&["-n", "all"], "say which with -c"),
        (&["-c", "ping", "nodes"], "-c belongs to a run"),
        (&["--nodes", "0"], "0 is not in 1..=1000"),
        (&["--plugins", "nowhere"], "nowhere has no plugin that can be run"),
        (&["--db", "missing/x.db", "-c", "ping"], "there is no folder missing"),
        (&["--design-docs", "nowhere"], "nowhere"),
    ] {
        let outcome = desk.vogeler(words).await.expect(1);
        assert!(outcome.stderr.contains(said), "{words:?}: {outcome:?}");
    }
    fs::write(desk.path().join("other.db"), "words that are no database, and more of them, and more and more").unwrap();
    let other = desk.vogeler(&["--db", "other.db", "nodes"]).await.expect(1);
    assert!(other.stderr.contains("other.db") && other.stderr.contains("not a database"), "{other:?}");
    desk.vogeler(&["--db", "other.db", "-c", "ping"]).await.expect(1);
    assert!(!desk.path().join("other.db.d").exists(), "nothing is written beside what is no database");
}

#[tokio::test]
async fn a_second_one_waits_for_nobody_and_ctrl_c_ends_everything() {
    let desk = Desk::new();
    let started = desk.path().join("started");
    desk.plugins(&format!(
        "slow: {{command: 'touch {}; exec sleep 600', shell: true, format: string, cwd: /}}\n",
        started.display()
    ));
    let mut run = Program::start(desk.command(&["--plugins", "mine", "-c", "slow"]), &desk.path().join("log"));
    eventually(async || started.exists().then_some(()).ok_or("slow runs")).await;
    let second = desk.vogeler(&["-c", "ping"]).await.expect(1);
    assert!(second.stderr.contains("another vogeler is at work on vogeler.db"), "{second:?}");
    desk.vogeler(&["aliases"]).await.expect(0);
    run.signal(Signal::SIGINT);
    assert_eq!(run.ended().await, 130, "{}", run.log());
    assert!(run.log().contains("what still runs is ended; to look at it again: vogeler status"), "{}", run.log());
    let later = desk.vogeler(&["status"]).await;
    assert!(later.stdout.contains("accepted the command, and its client is not connected any more"), "{later:?}");
    let left = Outcome::of(command("pgrep").args(["-f", "exec sleep 600"])).await;
    assert_eq!(left.stdout, "", "no plugin is left");
}

#[tokio::test]
async fn of_several_at_once_one_works_and_the_others_say_so() {
    let desk = Desk::new();
    let (one, two, three) =
        tokio::join!(desk.vogeler(&["-c", "facts"]), desk.vogeler(&["-c", "facts"]), desk.vogeler(&["-c", "facts"]));
    let mut worked = 0;
    for outcome in [one, two, three] {
        worked += usize::from(outcome.status == 0);
        let is_told = outcome.stderr.contains("another vogeler is at work on vogeler.db");
        assert!(outcome.status == 0 || is_told, "{outcome:?}");
    }
    assert!(worked >= 1);
}

#[tokio::test]
async fn what_it_remembers_may_be_deleted() {
    let desk = Desk::new();
    for _ in 0..3 {
        let ran = desk.vogeler(&["-c", "ping", "-c", "facts"]).await.expect(0);
        assert!(!ran.stdout.contains("later result"), "{ran:?}");
        fs::remove_dir_all(desk.path().join("vogeler.db.d")).unwrap();
    }
}

#[tokio::test]
async fn a_plugin_that_the_end_cuts_short_is_no_failure_of_its_own() {
    let desk = Desk::new();
    desk.plugins("slow: {command: sleep 2, format: string}\n");
    let ran = desk.vogeler(&["--plugins", "mine", "--nodes", "4", "-c", "slow", "--timeout", "100ms"]).await.expect(3);
    assert!(ran.stdout.contains("4 still running"), "{ran:?}");
    let errors = desk.vogeler(&["errors", "-o", "csv"]).await.expect(0);
    assert!(!errors.stdout.contains("signal"), "{errors:?}");
}

#[tokio::test]
async fn authors_of_views_are_told_what_is_wrong_with_them() {
    let desk = Desk::new();
    let write = |path: &str, text: &str| {
        let path = desk.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("dd/mine/views/by_os/map.js", "function (doc) {\n  emit(doc.facts.os.id, null);\n}\n");
    write("dd/mine/views/by_os/reduce.js", "_count\n");
    let ran = desk.vogeler(&["--design-docs", "dd", "--nodes", "3", "-c", "facts"]).await.expect(0);
    assert!(ran.stderr.contains("dd/mine/views/by_os/map.js:2: throws over"), "{ran:?}");
    assert!(ran.stderr.contains("_design/mine: loaded"), "{ran:?}");
    let counted = desk.vogeler(&["view", "mine/by_os", "-o", "csv"]).await.expect(0);
    assert_eq!(counted.stdout, "key,value\n,3\n", "{counted:?}");
    write("dd/mine/views/by_os/map.js", "function (doc) { emit(doc._id, null); }\n");
    let changed =
        desk.vogeler(&["--design-docs", "dd", "view", "mine/by_os", "--no-reduce", "-o", "csv"]).await.expect(0);
    assert!(changed.stdout.contains("app01.example.com"), "{changed:?}");
    write("dd/mine/views/by_os/map.js", "function (doc) {\n  emit(doc._id, null;\n}\n");
    let wrong = desk.vogeler(&["--design-docs", "dd", "view", "mine/by_os"]).await.expect(1);
    assert!(wrong.stderr.contains("map.js:2: "), "{wrong:?}");
}

#[tokio::test]
async fn the_other_programs_read_the_same_file() {
    let desk = Desk::new();
    desk.vogeler(&["--nodes", "3", "-c", "ping"]).await.expect(0);
    let url = format!("sqlite://{}/vogeler.db", desk.path().display());
    let runner = |words: &[&str]| {
        let mut command = command(binary("vogeler-runner"));
        command.args(["--dbhost", &url]).args(words);
        command
    };
    let found = Outcome::of(&mut runner(&["find", "exists ping", "-o", "csv"])).await.expect(0);
    assert_eq!(found.stdout.lines().count(), 4, "{found:?}");
    let missing = format!("sqlite://{}/none.db", desk.path().display());
    let mut asked = command(binary("vogeler-runner"));
    let none = Outcome::of(asked.args(["--dbhost", &missing, "find", "a == 1"])).await.expect(1);
    assert!(none.stderr.contains("there is no database at sqlite://"), "{none:?}");
}

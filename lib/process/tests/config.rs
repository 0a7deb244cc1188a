//! Configuration as a person meets it: what is in force, and what an error says.

#![allow(clippy::unwrap_used, reason = "a test that cannot build its input has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vogeler_process::{Flag, Known, Secret, Settings};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Broker {
    url: String,
    password: Option<Secret>,
    password_file: Option<String>,
    exchanges: Exchanges,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Exchanges {
    broadcast: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Client {
    concurrency: u16,
    groups: Vec<String>,
}

fn known() -> Known {
    Known::default()
        .section("broker", &Broker { url: "amqp://localhost".into(), ..Broker::default() })
        .section("client", &Client { concurrency: 4, groups: vec![] })
        .variable("VOGELER_QHOST", "broker.url")
}

struct Site {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vogeler.yaml");
    fs::write(&path, text).unwrap();
    Site { _dir: dir, path }
}

fn load(text: &str, variables: &[(&str, &str)], flags: Vec<Flag>) -> Result<Settings, String> {
    let site = file(text);
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(&known(), Some(&site.path), environment, flags)
        .map_err(|error| error.to_string().replace(site.path.to_str().unwrap(), "FILE"))
}

#[test]
fn flags_over_variables_over_the_file_over_defaults() {
    let text = "broker:\n  url: amqp://file\n  exchanges:\n    broadcast: b\nclient:\n  groups: [a]\n";
    let settings = load(text, &[("VOGELER_QHOST", "variable"), ("VOGELER_CLIENT_GROUPS", "x, y")], vec![]).unwrap();
    let broker: Broker = settings.section("broker").unwrap();
    let client: Client = settings.section("client").unwrap();
    assert_eq!((broker.url.as_str(), broker.exchanges.broadcast.as_str()), ("variable", "b"));
    assert_eq!((client.concurrency, client.groups), (4, vec!["x".to_owned(), "y".to_owned()]));
    let flag = Flag::given("broker.url", "--qhost", Some("flag"));
    let settings = load(text, &[("VOGELER_QHOST", "variable")], flag.into_iter().collect()).unwrap();
    assert!(settings.describe().contains("broker.url = flag  # --qhost"), "{}", settings.describe());
    assert!(settings.describe().contains("client.concurrency = 4  # default"));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let error = load("broker:\n  ulr: x\n", &[], vec![]).unwrap_err();
    assert_eq!(error, "FILE: there is no key \"broker.ulr\"; did you mean \"broker.url\"?");
    let error = load("brokre: {}\n", &[], vec![]).unwrap_err();
    assert_eq!(error, "FILE: there is no key \"brokre\"; did you mean \"broker\"?");
    let error = load("", &[("VOGELER_CLIENT_GROUP", "x")], vec![]).unwrap_err();
    assert!(error.contains("did you mean \"VOGELER_CLIENT_GROUPS\"?"), "{error}");
    assert!(load("server:\n  anything: 1\nstore:\n  url: x\n", &[], vec![]).is_ok(), "another program's sections");
    assert!(load("", &[("VOGELER_NODE", "x"), ("VOGELER_TEST_X", "y")], vec![]).is_ok(), "no section's variables");
}

#[test]
fn a_wrong_value_says_where_it_stands() {
    let site = file("client:\n  concurrency: many\n");
    let settings = Settings::load(&known(), Some(&site.path), [], []).unwrap();
    let error = settings.section::<Client>("client").unwrap_err().to_string();
    assert!(error.contains("vogeler.yaml: client.concurrency: invalid type"), "{error}");
}

#[test]
fn no_error_and_no_listing_shows_a_password() {
    let secret = "hunter2";
    for text in [
        "broker:\n  password: hunter2\n bad: [\n",
        "broker:\n  password: \"hunter2\n",
        "broker:\n  password: {hunter2: 1}\n",
        "broker:\n  password: [hunter2]\n",
        "broker: hunter2\n",
        "broker:\n  password: hunter2\n  url: amqp://u:hunter2@host\n",
    ] {
        let shown = match load(text, &[], vec![]) {
            Ok(settings) => match settings.section::<Broker>("broker") {
                Ok(broker) => format!("{broker:?} {}", settings.describe()).replace("amqp://u:hunter2@host", ""),
                Err(error) => error.to_string(),
            },
            Err(error) => error,
        };
        assert!(!shown.contains(secret), "{text}: {shown}");
    }
}

#[test]
fn a_password_in_a_flag_is_refused() {
    let flag = Flag::given("broker.url", "--qhost", Some("amqp://ops:hunter2@mq"));
    let error = load("", &[], flag.into_iter().collect()).unwrap_err();
    assert!(error.contains("broker.password") && error.contains("VOGELER_BROKER_PASSWORD"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert!(load("", &[("VOGELER_QHOST", "amqp://ops:hunter2@mq")], vec![]).is_ok(), "a variable may hold one");
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let missing = PathBuf::from("/nonexistent/vogeler.yaml");
    let error = Settings::load(&known(), Some(&missing), [], []).unwrap_err().to_string();
    assert_eq!(error, "cannot read the configuration file /nonexistent/vogeler.yaml");
}

#[test]
fn a_file_with_a_password_that_everybody_can_read_is_noticed() {
    let site = file("broker:\n  password: x\n");
    fs::set_permissions(&site.path, fs::Permissions::from_mode(0o644)).unwrap();
    let settings = Settings::load(&known(), Some(&site.path), [], []).unwrap();
    assert!(settings.notices().iter().any(|notice| notice.contains("chmod o=")), "{:?}", settings.notices());
}

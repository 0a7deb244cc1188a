//! How long SQLite takes: 10,000 records of 10 KB written, searched, indexed, and asked after a change.
//!
//! ```sh
//! cargo run --release -p vogeler-tests --example embedded [RECORDS]
//! ```
//!
//! It needs no service. Questions are told as the median of five; before each question to a view one record is changed, so
//! that every answer has it mapped again. The file is in the folder for temporary files: where that is no disk, figures of
//! writing say nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use vogeler_protocol::NodeName;
use vogeler_store::sqlite::Sqlite;
use vogeler_store::{Fate, Row, Store, ViewQuery, design_docs};
use vogeler_tests::site::workspace;

const RECORDS: usize = 10_000;
const BATCH: usize = 500;
const ROUNDS: usize = 5;

/// Names as Debian has them; each comes as several packages.
const SOURCES: [&str; 50] = [
    "adduser",
    "apt",
    "base-files",
    "bash",
    "binutils",
    "bsdutils",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "cpio",
    "cron",
    "curl",
    "dash",
    "dbus",
    "debconf",
    "dpkg",
    "e2fsprogs",
    "findutils",
    "gcc-12",
    "glibc",
    "gnupg",
    "grep",
    "gzip",
    "icu",
    "iproute2",
    "kmod",
    "krb5",
    "less",
    "linux-image",
    "logrotate",
    "lvm2",
    "mawk",
    "ncurses",
    "nginx",
    "openssh",
    "openssl",
    "pam",
    "perl",
    "postgresql",
    "procps",
    "python3.11",
    "readline",
    "rsyslog",
    "sed",
    "sqlite3",
    "sudo",
    "systemd",
    "tar",
    "util-linux",
    "zlib1g",
];

#[tokio::main]
async fn main() {
    let records = std::env::args().nth(1).map_or(RECORDS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let store = Sqlite::new(&path);
    store.create().await.unwrap();
    let sizes: usize = (0..100).map(|number| record(number, 0).len()).sum();
    println!("{}, {records} records of {} bytes", store.describe().await.unwrap(), sizes / 100);

    let mut puts = Vec::new();
    for first in (0..records).step_by(BATCH) {
        let rows: Vec<Row> = (first..records.min(first + BATCH)).map(|number| row(number, 0, None)).collect();
        let begun = Instant::now();
        let fates = store.put(&rows).await.unwrap();
        puts.push(begun.elapsed());
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Stored { .. })));
    }
    println!("put of {BATCH}: {}", told(&mut puts));

    for (what, condition) in [
        ("equality", "facts.os.family == 'Debian' && packages.openssl == '3.0.15-1'"),
        ("a version and a list", "packages.openssl < '3.0.15' && ports.port == 443"),
        ("one node", "_id == 'node00042.example.com'"),
    ] {
        let condition = condition.parse().unwrap();
        let mut found = 0;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            found = store.find(Some(&condition), &["facts.os.version".parse().unwrap()]).await.unwrap().len();
            times.push(begun.elapsed());
        }
        println!("find, {what} ({found} found): {}", told(&mut times));
    }

    for doc in design_docs::read_all(&workspace().join("design-docs")).unwrap() {
        let begun = Instant::now();
        store.sync_design(&doc).await.unwrap();
        println!("index of {}: {} ms", doc.name(), begun.elapsed().as_millis());
    }
    println!("the file: {} MiB", std::fs::metadata(&path).unwrap().len() >> 20);

    let openssl = ViewQuery {
        startkey: Some(json!(["openssl"])),
        endkey: Some(json!(["openssl", {}])),
        group_level: Some(2),
        ..ViewQuery::default()
    };
    let level = |level| ViewQuery { group_level: Some(level), ..ViewQuery::default() };
    let unreduced = ViewQuery { reduce: Some(false), ..ViewQuery::default() };
    for (what, design, view, query) in [
        ("?group=true", "system_records", "by_group", ViewQuery { group: true, ..ViewQuery::default() }),
        ("", "system_records", "all", ViewQuery::default()),
        ("?group_level=2, one package", "packages", "by_name", openssl.clone()),
        (
            "?reduce=false, one package",
            "packages",
            "by_name",
            ViewQuery { reduce: Some(false), group_level: None, ..openssl },
        ),
        ("?group_level=1", "packages", "by_name", level(1)),
        ("?group_level=2", "packages", "by_name", level(2)),
        ("", "packages", "by_name", ViewQuery::default()),
        ("?group_level=1", "freshness", "by_key", level(1)),
        ("", "system_records", "seen", unreduced),
    ] {
        let mut times = Vec::new();
        let mut rows = 0;
        for round in 1..=ROUNDS {
            change(&store, round * 7, round).await;
            let begun = Instant::now();
            rows = store.view(design, view, &query).await.unwrap().len();
            times.push(begun.elapsed());
        }
        println!("{design}/{view}{what} after a change ({rows} rows): {}", told(&mut times));
    }
}

/// The median and the longest.
fn told(times: &mut [Duration]) -> String {
    times.sort();
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    format!("{}, at most {}", milliseconds(times[times.len() / 2]), milliseconds(times[times.len() - 1]))
}

async fn change(store: &Sqlite, number: usize, version: usize) {
    let id = name(number);
    let standing = store.fetch(&[id]).await.unwrap().remove(0).unwrap();
    let rev: Value = serde_json::from_str::<Value>(&standing).unwrap()["_rev"].clone();
    let fates = store.put(&[row(number, version, Some(rev))]).await.unwrap();
    assert!(matches!(fates[..], [Fate::Stored { .. }]));
}

fn name(number: usize) -> NodeName {
    format!("node{number:05}.example.com").parse().unwrap()
}

fn row(number: usize, version: usize, rev: Option<Value>) -> Row {
    let mut document = document(number, version);
    if let Some(rev) = rev {
        document["_rev"] = rev;
    }
    Row { id: name(number), document: document.to_string().into_bytes() }
}

fn record(number: usize, version: usize) -> String {
    document(number, version).to_string()
}

/// What facts, packages, ps, ports and mounts make of a machine; `version` changes some of it.
fn document(number: usize, version: usize) -> Value {
    let id = name(number);
    let packages: Map<String, Value> = SOURCES
        .iter()
        .enumerate()
        .flat_map(|(place, source)| {
            ["", "-common", "-libs"].iter().map(move |part| {
                let release = (number / 100 + place + version) % 4;
                let installed = if *source == "openssl" {
                    format!("3.0.{}-1", 13 + release)
                } else {
                    format!("{}.{place}.{release}-{}+deb12u{release}", place % 7, place % 3)
                };
                (format!("{source}{part}"), installed.into())
            })
        })
        .collect();
    let processes: Vec<Value> = (0..28)
        .map(|pid| json!({"pid": 300 + pid * 7 + number % 5, "ppid": 1, "user": "www-data", "rss_bytes": 1_048_576 * (pid + 1), "started": "2026-11-21T08:40:10Z", "command": SOURCES[pid]}))
        .collect();
    let at = format!(
        "2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        1 + number % 20,
        number % 24,
        number % 60,
        version % 60,
        number % 1000
    );
    let entry = |command: &str, bytes: usize| json!({"command": command, "run": "019aa0b1-0000-7000-8000-000000000001", "format": "json", "collected_at": at, "received_at": at, "changed_at": at, "duration_ms": 120, "bytes": bytes, "digest": "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35", "instance": "5b0c1d6e-0000-4000-8000-000000000001", "epoch": 4, "seq": 17 + version});
    json!({
        "_id": id, "doc_type": "SystemRecord", "system_name": id, "created_at": "2026-09-01T08:00:00.000Z", "updated_at": at,
        "facts": {
            "os": {"id": "debian", "family": if number.is_multiple_of(3) { "RedHat" } else { "Debian" }, "name": "Debian GNU/Linux", "version": "12", "codename": "bookworm"},
            "kernel": {"name": "Linux", "release": "6.1.0-21-amd64"}, "architecture": "x86_64", "hostname": id,
            "cpu": {"model": "AMD EPYC 7763", "count": 1 << (number % 6)}, "memory": {"total_bytes": 33_554_432_000_u64, "available_bytes": 1_000_000 * number},
            "network": {"interfaces": {"eth0": {"mac": format!("52:54:00:12:{:02x}:{:02x}", number / 256 % 256, number % 256), "mtu": 1500, "addresses": [format!("10.0.{}.{}", number / 250, number % 250)]}}},
        },
        "packages": packages, "ps": processes,
        "ports": [{"proto": "tcp", "address": "0.0.0.0", "port": 443, "process": "nginx"}, {"proto": "tcp", "address": "::", "port": 22}],
        "mounts": [{"device": "/dev/vda1", "mountpoint": "/", "type": "ext4", "options": "rw,relatime", "size_bytes": 105_089_261_568_u64, "used_bytes": 21_474_836_480_u64 + u64::try_from(number).unwrap()}],
        "vogeler": {
            "client": {"version": "0.1.0", "groups": [format!("dc{}", number % 4), format!("role{}", number % 25)], "aliases": {"facts": {}, "packages": {}, "ps": {}, "ports": {}, "mounts": {}, "ping": {}}},
            "results": {"facts": entry("facts", 912), "packages": entry("packages", 4200), "ps": entry("ps", 3000), "ports": entry("ports", 120), "mounts": entry("mounts", 160)},
            "errors": if number.is_multiple_of(50) { json!({"users": {"command": "users", "received_at": at, "kind": "timeout"}}) } else { json!({}) },
        },
    })
}

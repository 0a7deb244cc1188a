//! Somebody writes a view and tries it before it goes anywhere. There is neither broker nor database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use vogeler_tests::Outcome;
use vogeler_tests::program::{binary, command};
use vogeler_tests::site::workspace;

/// `vogeler-server check`, with broker and database where nothing is.
async fn check(args: &[&str]) -> Outcome {
    let mut server = command(binary("vogeler-server"));
    server.env("VOGELER_BROKER_URL", "amqp://127.0.0.1:1").env("VOGELER_STORE_URL", "http://127.0.0.1:1");
    Outcome::of(server.arg("check").args(args)).await
}

fn map(folder: &TempDir, text: &str) {
    let view = folder.path().join("mine/ports/views/by_port");
    fs::create_dir_all(&view).unwrap();
    fs::write(view.join("map.js"), text).unwrap();
    fs::write(view.join("reduce.js"), "_count\n").unwrap();
}

#[tokio::test]
async fn a_view_is_written_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine").display().to_string();
    let file = format!("{mine}/ports/views/by_port/map.js");

    map(&folder, "// Which nodes listen on a port.\nfunction by_port(doc) {\n  emit(doc.ports, null);\n}\n");
    let named = check(&["--design-docs", &mine]).await.expect(1);
    assert!(named.stdout.starts_with(&format!("FAIL  {file}:1: no function to CouchDB")), "{named:?}");

    map(
        &folder,
        "// Which nodes listen on a port.\nfunction (doc) {\n  doc.ports.forEach(function (port) {\n    emit(port.port, doc);\n  });\n}\n",
    );
    let hasty = check(&["--design-docs", &mine]).await.expect(1);
    assert!(
        hasty.stdout.contains(&format!("FAIL  {file}:3: throws over 4 samples, first db01.example.com, ")),
        "{hasty:?}"
    );
    assert!(hasty.stdout.contains(&format!("warn  {file}: emits the document whole: ")), "{hasty:?}");

    let good = "function (doc) {\n  (isArray(doc.ports) ? doc.ports : []).forEach(function (port) {\n    emit(port.port.toString(), null);\n  });\n}\n";
    map(&folder, good);
    let tried = check(&["--design-docs", &mine]).await.expect(0);
    assert_eq!(tried.stdout, "ok    design document ports over 5 samples\n");
    assert_eq!(tried.stderr, "");

    // Machines of one's own have what nobody thought of.
    let own = folder.path().join("own.json");
    fs::write(&own, r#"[{"_id": "odd01", "ports": [{"port": 22}, {"proto": "tcp"}]}]"#).unwrap();
    let own = own.display().to_string();
    let odd = check(&["--design-docs", &mine, "--samples", &own]).await.expect(1);
    assert!(
        odd.stdout.contains(&format!("FAIL  {file}:3: throws over odd01, which is left out of the view: ")),
        "{odd:?}"
    );
    let gone = check(&["--design-docs", &mine, "--samples", &mine]).await.expect(1);
    assert!(gone.stderr.contains(&format!("vogeler-server: cannot read {mine}")), "{gone:?}");
    check(&["--samples", &own]).await.expect(1);
}

#[tokio::test]
async fn the_design_documents_that_ship_pass() {
    let shipped = workspace().join("design-docs");
    let shipped = check(&["--design-docs", shipped.to_str().unwrap()]).await.expect(0);
    assert_eq!(shipped.stdout.lines().filter(|line| line.starts_with("ok  ")).count(), 4, "{shipped:?}");
    assert_eq!(shipped.stdout.lines().count(), 4, "{shipped:?}");
    let nothing = check(&["--design-docs", Path::new("/nowhere").to_str().unwrap()]).await.expect(1);
    assert!(nothing.stderr.contains("cannot read /nowhere"), "{nothing:?}");
}

//! What `make install` puts into an empty root works from there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use vogeler_tests::program::{binary, command};
use vogeler_tests::site::workspace;
use vogeler_tests::{Outcome, Site, eventually};

#[tokio::test]
async fn a_client_runs_from_the_root_it_was_installed_into() {
    let site = Site::start("install").await;
    let root = site.path("root");
    let built = binary("vogeler-client").parent().unwrap().to_owned();
    let mut make = command("make");
    make.current_dir(workspace()).arg("--no-print-directory").arg("install");
    let manuals = site.path("manuals");
    Outcome::of(command(binary("vogeler-manuals")).arg(&manuals)).await.expect(0);
    make.arg(format!("DESTDIR={}", root.display())).arg(format!("BINDIR={}", built.display()));
    make.arg(format!("MANUALS={}", manuals.display()));
    Outcome::of(&mut make).await.expect(0);
    let again = Outcome::of(&mut make).await.expect(0);
    assert!(root.join("etc/vogeler/vogeler.yaml").is_file(), "an example configuration: {again:?}");
    for file in [
        "usr/share/man/man1/vogeler-runner-nodes.1",
        "usr/share/bash-completion/completions/vogeler-runner",
        "usr/share/zsh/vendor-completions/_vogeler-client",
        "usr/share/fish/vendor_completions.d/vogeler-server.fish",
        "usr/lib/systemd/system/vogeler-runner@.timer",
        "usr/share/doc/vogeler/cron/vogeler-runner",
    ] {
        assert!(root.join(file).is_file(), "{file}: {again:?}");
    }

    let client = |args: &[&str]| {
        let mut client = command(root.join("usr/bin/vogeler-client"));
        client
            .env("VOGELER_CONFIG", site.path("vogeler.yaml"))
            .env("VOGELER_NODE_NAME", "installed01")
            .env("VOGELER_PLUGIN_DIR", root.join("etc/vogeler/plugins.d"))
            .env("VOGELER_CLIENT_PROGRAM_DIR", root.join("usr/lib/vogeler/plugins"))
            .env("VOGELER_CLIENT_STATE_DIR", root.join("var/lib/vogeler"))
            .args(args);
        client
    };
    let listed = Outcome::of(&mut client(&["list"])).await.expect(0);
    assert!(listed.stdout.contains("facts") && listed.stdout.contains("jmx_ports"), "{listed:?}");
    let printed = Outcome::of(&mut client(&["exec", "facts"])).await.expect(0);
    let field: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert!(field["facts"]["kernel"]["release"].is_string(), "{printed:?}");

    // The first time it only introduces itself; then a command waits for it.
    Outcome::of(&mut client(&["--oneshot"])).await.expect(0);
    let _server = site.server().await;
    eventually(async || site.record("installed01").await).await;
    site.runner(&["-c", "packages", "-n", "installed01", "--detach"]).await.expect(0);
    Outcome::of(&mut client(&["--oneshot"])).await.expect(0);
    eventually(async || {
        let record = site.record("installed01").await?;
        anyhow::ensure!(record["packages"]["dpkg"].is_string(), "packages: {record}");
        anyhow::Ok(())
    })
    .await;
}

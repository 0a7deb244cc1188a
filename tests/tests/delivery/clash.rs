//! Two machines that say they are the same node.

use vogeler_tests::{Program, Site, eventually};

const FIRST: &str = "who: {command: echo first, format: string}\n";
const SECOND: &str = "who: {command: echo second, format: string}\n";

#[tokio::test]
async fn a_second_machine_of_a_name_is_told_so_and_noted_in_the_record() {
    let site = Site::start("clash").await;
    let _server = site.server().await;
    let first = site.node("twin01").plugin("who.yaml", FIRST).start().await;
    let introduced = eventually(async || {
        let record = site.record("twin01").await?;
        anyhow::ensure!(record["vogeler"]["client"].is_object(), "the first said hello: {record}");
        anyhow::Ok(record["vogeler"]["client"].clone())
    })
    .await;

    // The same name from a folder, and by the id of a machine, of its own.
    let machine_id = site.write("second/machine-id", "0123456789abcdef0123456789abcdef\n").display().to_string();
    let second = site.node("second").plugin("who.yaml", SECOND).env("VOGELER_NODE_NAME", "twin01");
    let second = second.env("VOGELER_CLIENT_MACHINE_ID_FILE", &machine_id);
    let second = Program::start(second.command(&[]), &site.path("second/client.log"));
    eventually(async || {
        let told = second.log().contains("another client is connected as twin01");
        anyhow::ensure!(told, "the second client says that the name is taken; it said:\n{}", second.log());
        anyhow::Ok(())
    })
    .await;
    let clash = eventually(async || {
        let record = site.record("twin01").await?;
        anyhow::ensure!(record["vogeler"]["clash"].is_object(), "a note of the clash: {record}");
        anyhow::Ok(record["vogeler"]["clash"].clone())
    })
    .await;
    assert!(clash["machine_id"].is_string() && clash["at"].is_string(), "which machine, and when: {clash}");
    assert_ne!(clash["machine_id"], introduced["machine_id"], "the machine of the second client: {clash}");
    assert_ne!(clash["instance"], introduced["instance"], "the instance of the second client: {clash}");

    let run = ["-c", "who", "-n", "twin01"];
    site.runner(&run).await.expect(0);
    let record = site.record("twin01").await.unwrap();
    assert_eq!(record["who"], "first", "the first serves on: {record}");
    assert_eq!(record["vogeler"]["client"], introduced, "the record stays the first's: {record}");
    assert_eq!(record["vogeler"]["clash"], clash, "noted once: {record}");

    assert_eq!(first.stop().await, 0, "the first client's exit status");
    let record = eventually(async || {
        let record = site.record("twin01").await?;
        let taken = record["vogeler"]["client"]["instance"] == clash["instance"];
        anyhow::ensure!(taken, "the second takes the name over: {record}; it said:\n{}", second.log());
        anyhow::Ok(record)
    })
    .await;
    assert_eq!(record["vogeler"]["client"]["machine_id"], clash["machine_id"], "{record}");
    assert!(record["vogeler"]["clash"].is_null(), "whoever is the node alone clashes with nobody: {record}");
    site.runner(&run).await.expect(0);
    assert_eq!(site.record("twin01").await.unwrap()["who"], "second");
    assert_eq!(second.stop().await, 0, "the second client's exit status");
    site.expect_settled().await;
}

//! The server and the database that they are fed to.

use vogeler_store::Store as _;
use vogeler_tests::{Program, Site};

/// One worker that waits for company, so that what is sent together is written together.
pub(super) const ONE_LANE: [(&str, &str); 3] =
    [("VOGELER_SERVER_WORKERS", "1"), ("VOGELER_SERVER_LINGER", "500ms"), ("VOGELER_SERVER_LOGLEVEL", "debug")];

/// Whether the database bounds the size of a record. CouchDB does, its stand-in does not.
pub(super) async fn bounds_records(site: &Site) -> bool {
    site.couch().describe().await.unwrap().starts_with("CouchDB")
}

/// Stops the server, and asserts that it is the one that was started.
pub(super) async fn expect_unharmed(server: Program) {
    let log = server.log();
    assert!(!log.contains("panicked"), "the server said:\n{log}");
    assert_eq!(server.stop().await, 0, "the exit status of the server that was started; it said:\n{log}");
}

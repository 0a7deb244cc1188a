//! Stories over the real programs, against a real broker and a database.
//!
//! Start at [`Site`]: a virtual host, a database, a folder and processes of one test's own, gone
//! when it is dropped. [`suites`] holds the conformance suites of the broker and the store, which
//! are the specification of those traits. [`Fleet`] is the oracle of every fault: it knows what was
//! sent and says where each result is. A test that misses a service fails and says what it tried.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

pub mod eventually;
pub mod faulty;
pub mod fleet;
pub mod private;
pub mod program;
pub mod services;
pub mod site;
pub mod suites;
pub mod tls;
pub mod torture;

pub use eventually::eventually;
pub use fleet::{Account, Fleet};
pub use program::{Outcome, Program};
pub use services::Services;
pub use site::{Node, Site};

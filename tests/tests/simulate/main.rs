//! A deterministic simulation: server, clients and runners as they ship, on a broker, a database, disks and plugins
//! in memory, on a clock that stands until somebody waits. A seed decides everything, what goes wrong included.
//!
//! Start at `seeds`, which runs `run::simulate` for each. `plan` is what a seed decides beforehand, `world` decides the rest call by call; `broker`,
//! `consumer` and `store` are the outside as a part meets it, `life` starts and ends parts; `ledger` keeps
//! account of promises, `judge` says in the end whether they were kept. What really is on a network, a disk or a
//! thread is not simulated: that RabbitMQ, CouchDB and Linux are as the twins in memory say is for the other tests.
//!
//! `VOGELER_SIMULATE_SEEDS` is the seeds to run, `17` or `0..1000`; `VOGELER_SIMULATE_NODES` the number of nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod broker;
mod consumer;
mod history;
mod judge;
mod ledger;
mod life;
mod parts;
mod plan;
mod run;
mod seeds;
mod store;
mod world;

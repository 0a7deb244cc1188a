//! Views over SQLite, held against CouchDB's answers to the same questions.
//!
//! Start at [`compare`]. [`fixture`] is what is asked: records in steps, design documents, questions. [`answers`] is what comes of it. What a real
//! CouchDB answered is recorded in `tests/fixtures/views/answers.json`, and every run compares with that; a CouchDB that the
//! tests are given is asked beside, with some questions more ([`chance`]). pouchdb-server, which stands in for one, is no
//! judge: it has its own order of keys. It has to have the same rows all the same.
//!
//! Deliberately absent: what CouchDB says where a function fails, which each engine says in its own words.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod answers;
mod chance;
mod compare;
mod databases;
mod fixture;

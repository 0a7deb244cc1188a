//! The broker goes away, closes connections, takes nothing, loses queues: what it has confirmed is
//! kept, and everybody comes back by themselves.
//!
//! Start at [`away`]. [`load`] makes results flow while something happens; [`web01`] is the one node
//! with a real client, and knows what that client did.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alarm;
mod away;
mod connections;
mod load;
mod queues;
mod web01;

//! The whole of Vogeler in one process, for a first try, a laptop and authors of plugins.
//!
//! Start at [`run::run`] and [`house`], which holds the server, the nodes and the broker in memory together; the runner's own code asks
//! them. [`first_look`] is what `vogeler` does when it is told nothing, [`bundle`] what it brings along. The broker dies
//! with the process, and what it holds then with it: nothing here waits for a node that is off line.

pub mod bundle;
pub mod cli;
pub mod first_look;
pub mod home;
pub mod house;
pub mod plugins;
pub mod residents;
pub mod run;
pub mod views;

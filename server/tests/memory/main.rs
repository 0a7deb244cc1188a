//! The server over the broker and the database in memory, in no time at all: what takes minutes, or what no
//! real database can be brought to do on demand.

mod awkward;
mod balance;
mod mortal;
mod moving;
mod newcomers;
mod patience;
mod served;

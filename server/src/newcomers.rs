//! Whether nodes that are not at hand are likely to have no record yet.
//!
//! When machines are rolled out, most of what comes is of nodes that nobody has heard of. To read their records first finds
//! nothing, and costs the database a third of what the writing does. So where almost all that was read was not there, the next is
//! written as new, unread. A record that is there after all is a conflict, which is read and merged like any other: a wrong guess
//! costs time and nothing else.

/// From so many on a proportion says something; where fewer come, reading them is cheap anyway.
const ENOUGH: usize = 50;

/// What reading and writing have shown so far.
#[derive(Debug, Default)]
pub struct Newcomers {
    likely: bool,
    /// Read since the last conclusion, and how many of them were missing.
    asked: usize,
    missing: usize,
}

impl Newcomers {
    /// Whether to take a node that is not at hand for a new one.
    pub fn are_likely(&self) -> bool {
        self.likely
    }

    /// So many records were read; so many of them were not there.
    pub fn read(&mut self, asked: usize, missing: usize) {
        self.asked += asked;
        self.missing += missing;
        if self.asked >= ENOUGH {
            self.likely = self.missing * 10 >= self.asked * 9;
            (self.asked, self.missing) = (0, 0);
        }
    }

    /// So many were written unread; so many of them were there.
    pub fn guessed(&mut self, written: usize, wrong: usize) {
        if wrong * 10 > written {
            self.likely = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn almost_all_have_to_be_missing_and_one_bad_guess_in_ten_ends_it() {
        let mut newcomers = Newcomers::default();
        newcomers.read(40, 40);
        assert!(!newcomers.are_likely(), "of a few nothing is concluded");
        newcomers.read(9, 9);
        newcomers.read(1, 1);
        assert!(newcomers.are_likely(), "fifty in several batches are enough");
        newcomers.read(500, 449);
        assert!(!newcomers.are_likely());
        newcomers.read(500, 450);
        assert!(newcomers.are_likely());
        newcomers.guessed(500, 50);
        newcomers.guessed(0, 0);
        newcomers.read(3, 0);
        assert!(newcomers.are_likely());
        newcomers.guessed(500, 51);
        assert!(!newcomers.are_likely());
    }
}

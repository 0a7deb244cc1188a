//! What is there of the queues of results, and what follows from it. No I/O: every step of a move may be the last of a
//! `setup`, and the next one goes by what it finds.

use std::collections::BTreeSet;

use vogeler_protocol::names::SLOTS;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The numbers of the queues of results.
    pub(super) queues: BTreeSet<u32>,
    /// The queue that results wait in while the others are changed. While it is there servers stand aside.
    pub(super) moving: bool,
    /// The sign that the queues are what they are to be, and slots are being bound to them.
    pub(super) switching: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The queues are those that are wanted.
    Rest,
    /// Make them; there is nothing to move.
    Create,
    /// Take the slots from the queues that there are, work these off and make the wanted ones of them.
    Begin,
    /// Bind the slots to the queues that there are, so many, and work off what waited meanwhile.
    Finish(u32),
    /// Take the sign away: what it says is over.
    Unmark,
}

impl Found {
    /// How many queues are in force: those without a gap.
    pub(super) fn in_force(&self) -> u32 {
        (0..SLOTS).find(|number| !self.queues.contains(number)).unwrap_or(SLOTS)
    }

    /// What follows where so many queues are wanted.
    pub(super) fn next(&self, wanted: u32) -> Next {
        match (self.switching, self.moving, self.in_force()) {
            // Somebody has deleted the queues that slots were being bound to.
            (true, true, 0) => Next::Unmark,
            // They may have results already, which are later than those that wait.
            (true, true, count) => Next::Finish(count),
            (true, false, _) => Next::Unmark,
            (false, true, _) => Next::Begin,
            (false, false, _) if self.queues.is_empty() => Next::Create,
            (false, false, count) if count == wanted && self.queues.range(count..).next().is_none() => Next::Rest,
            (false, false, _) => Next::Begin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes that a step makes to what is there, in their order.
    fn changes(found: &Found, next: Next, wanted: u32) -> Vec<Found> {
        let mut now = found.clone();
        let mut states = Vec::new();
        let mut note = |now: &Found| states.push(now.clone());
        match next {
            Next::Rest => {}
            Next::Create => {
                for number in (0..wanted).rev() {
                    now.queues.insert(number);
                    note(&now);
                }
            }
            Next::Begin => {
                now.moving = true;
                note(&now);
                for number in found.queues.range(wanted..).rev() {
                    now.queues.remove(number);
                    note(&now);
                }
                for number in 0..wanted {
                    now.queues.insert(number);
                    note(&now);
                }
                now.switching = true;
                note(&now);
            }
            Next::Finish(count) => {
                assert_eq!(count, found.in_force(), "{found:?}");
                now.moving = false;
                note(&now);
                now.switching = false;
                note(&now);
            }
            Next::Unmark => {
                now.switching = false;
                note(&now);
            }
        }
        states
    }

    fn everything() -> impl Iterator<Item = Found> {
        (0_u32..64).flat_map(|queues| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(moving, switching)| Found {
                queues: (0..6).filter(|number| queues & (1_u32 << number) != 0).collect(),
                moving,
                switching,
            })
        })
    }

    #[test]
    fn whatever_is_found_ends_with_the_wanted_queues_and_no_sign() {
        for begun in everything() {
            for wanted in 1..=5 {
                let mut found = begun.clone();
                for _ in 0..5 {
                    let next = found.next(wanted);
                    found = changes(&found, next, wanted).pop().unwrap_or(found);
                }
                let rest = Found { queues: (0..wanted).collect(), moving: false, switching: false };
                assert_eq!((found.next(wanted), &found), (Next::Rest, &rest), "{wanted} from {begun:?}");
            }
        }
    }

    /// Whoever runs `setup` again after a death may want another number by now.
    #[test]
    fn whatever_step_was_the_last_the_next_run_comes_to_the_same_end() {
        for begun in everything() {
            for (first, then) in (1..=4).flat_map(|first| (1..=4).map(move |then| (first, then))) {
                let mut found = begun.clone();
                loop {
                    let next = found.next(first);
                    let states = changes(&found, next, first);
                    for died in &states {
                        let mut found = died.clone();
                        for _ in 0..5 {
                            let next = found.next(then);
                            found = changes(&found, next, then).pop().unwrap_or(found);
                        }
                        assert_eq!(found.next(then), Next::Rest, "{died:?} of {begun:?}, {first} and then {then}");
                    }
                    let Some(last) = states.last() else { break };
                    found = last.clone();
                }
            }
        }
    }

    /// Slots are bound to the new queues from the sign on. What comes there is later than what waits, so nobody may take
    /// these queues for old ones.
    #[test]
    fn queues_that_slots_are_being_bound_to_are_never_worked_off() {
        for found in everything().filter(|found| found.switching && found.moving && found.in_force() > 0) {
            for wanted in 1..=6 {
                assert_eq!(found.next(wanted), Next::Finish(found.in_force()), "{found:?}");
            }
        }
    }

    #[test]
    fn a_queue_beyond_a_gap_is_not_in_force_and_not_left_alone() {
        let found = Found { queues: [0, 1, 3].into(), ..Found::default() };
        assert_eq!(found.in_force(), 2);
        assert_eq!(found.next(2), Next::Begin);
        let whole = Found { queues: (0..SLOTS).collect(), ..Found::default() };
        assert_eq!((whole.in_force(), whole.next(SLOTS)), (SLOTS, Next::Rest));
    }
}

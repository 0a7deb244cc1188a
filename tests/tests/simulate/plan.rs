//! What a seed decides before anything runs: how many nodes, what is asked of them, and what goes wrong how often.
//!
//! Most kinds of trouble are left out of most seeds: what is rare beside everything else is frequent where it is alone.

use std::time::Duration;

use fastrand::Rng;

/// How often something goes wrong, in a hundred thousand calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// The call takes up to some seconds.
    pub(super) slow: u32,
    /// It fails and has had no effect.
    pub(super) refused: u32,
    /// It has had its effect, and the answer is lost.
    pub(super) unanswered: u32,
    /// The part that calls ends there, as a process that is killed or a machine that loses power.
    pub(super) crash: u32,
    /// The connection that it is made on ends.
    pub(super) cut: u32,
    /// A message is published twice.
    pub(super) twice: u32,
    /// A queue is full, or a notice is dropped.
    pub(super) full: u32,
    /// Somebody else writes a record that is about to be written.
    pub(super) conflict: u32,
    /// The database answers for some rows of a request, and not for others.
    pub(super) half: u32,
}

impl Rates {
    /// Nothing goes wrong.
    pub(super) const CALM: Self =
        Self { slow: 0, refused: 0, unanswered: 0, crash: 0, cut: 0, twice: 0, full: 0, conflict: 0, half: 0 };

    fn drawn(rng: &mut Rng) -> Self {
        let mut often = |rates: &[u32]| rates[rng.usize(..rates.len())];
        Self {
            slow: often(&[0, 100, 1_000, 5_000]),
            refused: often(&[0, 0, 100, 1_000, 4_000]),
            unanswered: often(&[0, 0, 100, 1_000, 4_000]),
            crash: often(&[0, 0, 20, 100, 400]),
            cut: often(&[0, 0, 20, 200, 800]),
            twice: often(&[0, 0, 1_000, 10_000]),
            full: often(&[0, 0, 1_000, 5_000]),
            conflict: often(&[0, 1_000, 10_000, 40_000]),
            half: often(&[0, 0, 1_000, 10_000]),
        }
    }
}

/// How the database is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// No connection.
    Away,
    /// No answer: each call ends with a time-out.
    Hangs,
    /// Its login or the database itself is gone.
    Missing,
    /// It answers every read and fails every write.
    Full,
}

/// Something that happens at a time, whatever the parts do then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mishap {
    /// The broker restarts: every connection ends.
    Restart,
    /// The broker takes no messages for so long.
    Alarm(Duration),
    /// The database is away for so long.
    Absence(Absence, Duration),
    /// A server, by its number, is killed.
    KillServer(usize),
    /// A server is asked to stop, and started again.
    StopServer(usize),
    /// A node, by its number, is killed.
    KillNode(usize),
    /// A node is asked to stop, and started again.
    StopNode(usize),
    /// A node reads its configuration anew, with these groups.
    Reload(usize, &'static [&'static str]),
    /// The clock of a node is set, ahead or back by so many milliseconds.
    SetClock(usize, i64),
    /// An operator sends the dead letters back.
    Replay,
}

/// Something that an operator asks.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// When.
    pub(super) at: Duration,
    /// Of whom, as it is typed.
    pub(super) target: String,
    /// What.
    pub(super) aliases: Vec<&'static str>,
    /// How long the command stays good.
    pub(super) ttl: Duration,
    /// Over how long the nodes spread their start.
    pub(super) splay: Duration,
    /// How many nodes are asked at once.
    pub(super) batch: Option<usize>,
    /// Whether to leave once the broker has it.
    pub(super) detach: bool,
    /// When the operator has had enough.
    pub(super) patience: Option<Duration>,
}

/// The aliases that nodes have, and the keys that they fill; two share one.
pub(super) const ALIASES: [(&str, &str); 4] =
    [("facts", "facts"), ("packages", "packages"), ("rpms", "packages"), ("users", "users")];

/// An alias that no node has.
pub(super) const NO_ALIAS: &str = "nonesuch";

/// The groups that nodes may be in.
pub(super) const GROUPS: [&str; 3] = ["web", "db", "edge"];

/// What a seed decides.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// How many nodes there are.
    pub(super) nodes: usize,
    /// How many servers; one works, the others stand by.
    pub(super) servers: usize,
    /// How often calls go wrong while the storm lasts.
    pub(super) rates: Rates,
    /// How long that is.
    pub(super) storm: Duration,
    /// What happens during it.
    pub(super) mishaps: Vec<(Duration, Mishap)>,
    /// What is asked during it.
    pub(super) asked: Vec<Asked>,
}

impl Plan {
    /// What that seed decides; with so many nodes, if it is said.
    pub(super) fn of(seed: u64, nodes: Option<usize>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let drawn = match rng.u32(..200) {
            0 => rng.usize(1_000..=2_000),
            1..20 => rng.usize(60..=200),
            _ => rng.usize(1..=40),
        };
        let nodes = nodes.unwrap_or(drawn);
        let storm = Duration::from_secs(rng.u64(60..=1_200));
        let servers = rng.usize(1..=2);
        let rates = if rng.u32(..12) == 0 { Rates::CALM } else { Rates::drawn(&mut rng) };
        let mut mishaps = Vec::new();
        for _ in 0..rng.usize(..=12) {
            let at = within(&mut rng, storm);
            mishaps.push((at, mishap(&mut rng, servers, nodes)));
            // What comes alone finds everybody at rest.
            if rng.u32(..3) == 0 {
                let soon = at + Duration::from_millis(rng.u64(..3_000));
                mishaps.push((soon.min(storm), mishap(&mut rng, servers, nodes)));
            }
        }
        mishaps.sort_by_key(|(at, _)| *at);
        let most = if nodes > 500 { 2 } else { 12 };
        let asked = (0..rng.usize(1..=most)).map(|_| asked(&mut rng, storm, nodes));
        Self { nodes, servers, rates, storm, asked: asked.collect(), mishaps }
    }
}

/// When everybody is asked in a broadcast: all are connected by then.
const ASKED: Duration = Duration::from_secs(60);

impl Plan {
    /// One command to so many nodes, and nothing that goes wrong.
    pub(super) fn broadcast(nodes: usize) -> Self {
        let asked = Asked {
            at: ASKED,
            target: "all".to_owned(),
            aliases: vec!["facts"],
            ttl: Duration::from_secs(24 * 3_600),
            splay: Duration::ZERO,
            batch: None,
            detach: false,
            patience: None,
        };
        let storm = ASKED;
        Self { nodes, servers: 1, rates: Rates::CALM, storm, mishaps: Vec::new(), asked: vec![asked] }
    }
}

fn within(rng: &mut Rng, storm: Duration) -> Duration {
    Duration::from_millis(rng.u64(..storm.as_secs() * 1_000))
}

fn mishap(rng: &mut Rng, servers: usize, nodes: usize) -> Mishap {
    // The first nodes meet most of it, so that one thing meets the other.
    let node = |rng: &mut Rng| rng.usize(..nodes.min(3));
    match rng.u32(..13) {
        0 => Mishap::Restart,
        1 => Mishap::Alarm(Duration::from_secs(rng.u64(1..=120))),
        2 | 3 => {
            let absences = [Absence::Away, Absence::Hangs, Absence::Missing, Absence::Full];
            // Now and then for longer than a server has patience.
            let most = if rng.u32(..6) == 0 { 1_500 } else { 120 };
            Mishap::Absence(absences[rng.usize(..absences.len())], Duration::from_secs(rng.u64(1..=most)))
        }
        4 => Mishap::KillServer(rng.usize(..servers)),
        5 => Mishap::StopServer(rng.usize(..servers)),
        6 => Mishap::KillNode(node(rng)),
        7 => Mishap::StopNode(node(rng)),
        8 => Mishap::SetClock(node(rng), rng.i64(-7_200_000..=7_200_000)),
        9 => Mishap::Replay,
        _ => Mishap::Reload(node(rng), &GROUPS[rng.usize(..=GROUPS.len())..]),
    }
}

fn asked(rng: &mut Rng, storm: Duration, nodes: usize) -> Asked {
    let target = match rng.u32(..6) {
        0 | 1 => "all".to_owned(),
        2 => format!("group:{}", GROUPS[rng.usize(..GROUPS.len())]),
        3 => "node1*".to_owned(),
        4 => name(rng.usize(..nodes)),
        // Now and then a name that nobody has.
        _ => (0..3).map(|_| name(rng.usize(..=nodes))).collect::<Vec<_>>().join(","),
    };
    let mut aliases: Vec<&'static str> = (0..rng.usize(1..=2)).map(|_| ALIASES[rng.usize(..ALIASES.len())].0).collect();
    if rng.u32(..15) == 0 {
        aliases.push(NO_ALIAS);
    }
    aliases.sort_unstable();
    aliases.dedup();
    let ttl = if rng.u32(..8) == 0 { rng.u64(1..=120) } else { 24 * 3_600 };
    Asked {
        at: within(rng, storm),
        target,
        aliases,
        ttl: Duration::from_secs(ttl),
        splay: Duration::from_secs(if rng.bool() { 0 } else { rng.u64(..=30) }),
        batch: (rng.u32(..5) == 0).then(|| rng.usize(1..=nodes.max(2)).max(nodes / 4).max(1)),
        detach: rng.u32(..6) == 0,
        patience: (rng.u32(..10) == 0).then(|| Duration::from_secs(rng.u64(..=60))),
    }
}

/// The name of a node, by its number.
pub(super) fn name(number: usize) -> String {
    format!("node{number}")
}

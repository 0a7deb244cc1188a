//! What runs programs, as a handle: this machine, or a simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use vogeler_protocol::message::Failure;
use vogeler_protocol::{Alias, Data, Format, Key, NodeName};

use super::{Action, Plugin, Program, strays};

/// What came of a program: its exit status, where it had one; and the data, or why there is none.
pub type Ran = (Option<i32>, Result<Data, Failure>);

/// A program that a simulation runs.
pub type Running = Pin<Box<dyn Future<Output = Ran> + Send>>;

type Simulated = dyn Fn(&Plugin, &str) -> Running + Send + Sync;

/// What runs programs. Cheap to clone.
#[derive(Clone)]
pub struct Programs(Option<Arc<Simulated>>);

impl Programs {
    /// The machine that this process is on.
    pub fn of_machine() -> Self {
        Self(None)
    }

    /// No process at all: `run` says what comes of a plugin, for the run of that name. It ends when it is dropped.
    pub fn simulated(run: impl Fn(&Plugin, &str) -> Running + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(run)))
    }

    /// The simulated program; none where the machine has to run a real one.
    pub(super) fn simulate(&self, plugin: &Plugin, run: &str) -> Option<Running> {
        self.0.as_ref().map(|simulated| simulated(plugin, run))
    }

    /// Ends every plugin of the node that still runs, with its group and with what has escaped it.
    pub async fn end_all(&self, node: &NodeName) {
        if self.0.is_none() {
            strays::end_all(node).await;
        }
    }
}

impl Plugin {
    /// One that [`Programs::simulated`] runs, whatever the machine has.
    pub fn simulated(alias: Alias, key: Key) -> Self {
        let program = Program {
            path: "/simulated".into(),
            args: Vec::new(),
            user: None,
            memory: None,
            nice: 0,
            env: BTreeMap::new(),
            cwd: "/".into(),
        };
        Self {
            alias,
            description: String::new(),
            key,
            format: Format::Json,
            action: Action::Program(program),
            timeout: Duration::from_secs(60),
            max_output: 1 << 20,
        }
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Programs(simulated)" } else { "Programs" })
    }
}

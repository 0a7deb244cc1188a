//! Which plugins the nodes have.

use std::path::{Path, absolute};

use anyhow::{Context as _, ensure};
use vogeler_client::plugin::PING;
use vogeler_client::plugin::registry::Registry;
use vogeler_protocol::Alias;
use vogeler_runner::output;

/// Those of an author's folder, or those that come along; what is wrong with some is told.
///
/// # Errors
/// The author's folder has none that can be run.
pub fn read(theirs: Option<&Path>, ours: &Path) -> anyhow::Result<Registry> {
    // Plugins start elsewhere.
    let folder = theirs.unwrap_or(ours);
    let folder = absolute(folder).with_context(|| format!("cannot tell where {} is", folder.display()))?;
    let registry = Registry::read(&folder, &folder.join("bin"));
    for broken in registry.broken() {
        output::notice(&format!("{broken}; it is left out, the others serve on"));
    }
    ensure!(
        aliases(&registry).next().is_some(),
        "{} has no plugin that can be run: no alias in a *.yaml",
        folder.display()
    );
    Ok(registry)
}

/// What can be run beside `ping`.
pub fn aliases(registry: &Registry) -> impl Iterator<Item = &Alias> {
    registry.plugins().map(|plugin| &plugin.alias).filter(|alias| alias.as_str() != PING)
}

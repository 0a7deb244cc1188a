//! What systemd is told, where it is the supervisor (sd_notify(3)): ready, what it does, stopping, alive.
//!
//! Start at [`guard`]. Everything here does nothing where `NOTIFY_SOCKET` is not set: under
//! supervisord, runit or a shell a program behaves the same.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Tells that the program serves, runs it to its end, and says meanwhile that it is alive, twice in the
/// time that `WatchdogSec=` allows.
///
/// It is said from the very task that runs the program: one that hangs says nothing.
pub async fn guard<T>(program: impl Future<Output = T>) -> T {
    tell(&[NotifyState::Ready]);
    let Some(allowed) = watchdog() else { return program.await };
    let mut alive = tokio::time::interval(allowed / 2);
    tokio::pin!(program);
    loop {
        tokio::select! {
            biased;
            ended = &mut program => return ended,
            _ = alive.tick() => tell(&[NotifyState::Watchdog]),
        }
    }
}

/// Says in a few words what the program does now; `systemctl status` shows it.
pub fn status(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

/// Tells that the program is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not told");
    }
}

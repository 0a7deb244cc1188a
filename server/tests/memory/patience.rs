//! A database that stays away for long.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::served::{Served, until};

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_the_broker_has_the_results_again_until_the_database_is_back() {
    let begun = Instant::now();
    let served = Served::start().await;
    served.send("web01", 1).await;
    until("the first result", 1, async || served.holds("web01", 1).await).await;
    served.store.go_away(true);
    served.send("web01", 2).await;
    served.send("web01", 3).await;
    until("both taken", 1, async || served.waiting().await == (0, 1)).await;
    until("both back in the queue, and nobody who takes them", 12, async || served.waiting().await == (2, 0)).await;
    assert!(begun.elapsed() > Duration::from_secs(600), "patience was ten minutes, not {:?}", begun.elapsed());
    assert!(!served.health.told().0, "{}", served.health.told().1);

    sleep(Duration::from_secs(3600)).await;
    assert_eq!(served.waiting().await, (2, 0), "an hour later they still wait there");
    served.store.go_away(false);
    until("both stored", 2, async || served.holds("web01", 2).await && served.holds("web01", 3).await).await;
    assert!(served.health.told().0, "{}", served.health.told().1);
    assert_eq!(served.waiting().await, (0, 1));
}

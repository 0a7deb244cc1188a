//! A value that changes, and that many wait for.
//!
//! Start at [`Current::wait_for`]. `tokio::sync::watch` does the same and wakes those who wait in an order that it
//! draws at random; here whoever waited first is woken first, so that a simulation can be replayed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value that changes. Clones share it.
#[derive(Debug)]
pub struct Current<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Current<T> {
    /// With what it is at first.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { value: Mutex::new(value), changed: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is now.
    pub fn get(&self) -> T {
        self.lock().clone()
    }

    /// What it is from now on.
    pub fn set(&self, value: T) {
        let before = std::mem::replace(&mut *self.lock(), value);
        // What it was may do something when it goes, and that something may look here.
        drop(before);
        self.0.changed.notify_waiters();
    }

    /// Waits until `look` finds something in it, and returns that. Cancel-safe.
    pub async fn wait_for<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let found = look(&self.lock());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn who_waited_first_is_woken_first() {
        let current = Current::new(None);
        let mut waiting = JoinSet::new();
        for number in 0..50 {
            let current = current.clone();
            waiting.spawn(async move { (number, current.wait_for(|value: &Option<char>| *value).await) });
        }
        tokio::task::yield_now().await;
        current.set(Some('a'));
        let mut woken = Vec::new();
        while let Some(ended) = waiting.join_next().await {
            woken.push(ended.unwrap());
        }
        assert_eq!(woken, (0..50).map(|number| (number, 'a')).collect::<Vec<_>>());
        assert_eq!(current.wait_for(|value| *value).await, 'a', "what is there already is not waited for");
    }
}

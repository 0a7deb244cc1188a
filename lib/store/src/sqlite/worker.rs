//! A thread with a connection of its own, that does one job after the other.
//!
//! SQLite waits for its disk, and an engine for JavaScript is bound to its thread: neither has a place on a runtime's.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::Trouble;
use super::schema;

/// Which file it is: device and number.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

type Job<T> = Box<dyn FnOnce(Result<&mut Connection, Trouble>, &mut T) + Send>;

/// Does jobs until it is dropped, which waits for those that are under way. `T` is what it keeps from one to the next.
pub(super) struct Worker<T> {
    /// None while it ends.
    jobs: Option<Sender<Job<T>>>,
    /// None where no thread was to be had.
    thread: Option<JoinHandle<()>>,
}

impl<T: 'static> Worker<T> {
    /// Starts the thread; the file is opened for the first job, and anew for each until there is a database in it, and
    /// where another has taken its place.
    pub(super) fn start(name: &str, path: PathBuf, kept: impl FnOnce() -> T + Send + 'static) -> Self {
        let (jobs, waiting) = channel::<Job<T>>();
        // Where no thread is to be had, the jobs end with it and say so.
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut kept = kept();
            let mut open: Option<(Identity, Connection)> = None;
            while let Ok(job) = waiting.recv() {
                // A file that was deleted or replaced would take what nobody finds again.
                open.take_if(|(opened, _)| identity(&path).as_ref() != Some(opened));
                if open.is_none() {
                    match schema::open(&path) {
                        Ok(database) => open = identity(&path).map(|identity| (identity, database)),
                        Err(trouble) => {
                            job(Err(trouble), &mut kept);
                            continue;
                        }
                    }
                }
                job(open.as_mut().map(|(_, database)| database).ok_or(Trouble::Missing), &mut kept);
            }
        });
        Self { jobs: Some(jobs), thread: thread.ok() }
    }
}

impl<T> Drop for Worker<T> {
    /// The last connection to close takes the files of the log away.
    fn drop(&mut self) {
        self.jobs = None;
        // One that has panicked has closed its connection as well. From its own thread there is nothing to wait for.
        let _ = self.thread.take().filter(|it| it.thread().id() != thread::current().id()).map(JoinHandle::join);
    }
}

/// Has a job done, and waits for what comes of it. A job whose caller has gone is done all the same.
pub(super) async fn at_work<K: 'static, T: Send + 'static>(
    worker: &Worker<K>,
    job: impl FnOnce(&mut Connection, &mut K) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (answer, answered) = oneshot::channel();
    let job: Job<K> = Box::new(move |database, kept| {
        // Nobody waits any more: there is nothing to tell.
        let _ = answer.send(database.and_then(|database| job(database, kept)));
    });
    let gone = || Trouble::Ended("the thread that works on it has ended".to_owned());
    let sent = worker.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
    if !sent {
        return Err(gone());
    }
    answered.await.map_err(|_| gone())?
}

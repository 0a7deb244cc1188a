//! The tables, and opening the file.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::Trouble;

/// Written into the file (`user_version`); another number is another layout.
pub(super) const VERSION: i64 = 2;

/// How long a writer waits for another process's.
const BUSY: Duration = Duration::from_secs(10);

/// A deleted document keeps its row, without a body, and so its revisions go on. `seq` counts the writes of the whole
/// database: an index is built up to one. `listed` are the nodes that are in service. An index is spoilt, in those words, as
/// long as the write `spoilt_by` stands. `spots` are where the rows of a document stand, which is a table since
/// an index would be written in the order of the rows, all over it. `tallies` are how many rows there are of each key, for views that count.
const TABLES: &str = "
    CREATE TABLE documents (
        id TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        seq INTEGER NOT NULL UNIQUE,
        updated_at TEXT,
        listed INTEGER NOT NULL,
        groups TEXT,
        body TEXT
    );
    CREATE INDEX nodes ON documents (listed, id, updated_at);
    CREATE TABLE designs (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE indexes (
        number INTEGER PRIMARY KEY,
        design TEXT NOT NULL,
        signature TEXT NOT NULL,
        seq INTEGER NOT NULL,
        spoilt_by INTEGER,
        spoilt TEXT,
        UNIQUE (design, signature)
    );
    CREATE TABLE rows (
        number INTEGER NOT NULL,
        view INTEGER NOT NULL,
        sort BLOB NOT NULL,
        document TEXT NOT NULL,
        place INTEGER NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (number, view, sort, document, place)
    ) WITHOUT ROWID;
    CREATE TABLE spots (
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        view INTEGER NOT NULL,
        sort BLOB NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (number, document, view, sort, place)
    ) WITHOUT ROWID;
    CREATE TABLE tallies (
        number INTEGER NOT NULL,
        view INTEGER NOT NULL,
        sort BLOB NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (number, view, sort)
    ) WITHOUT ROWID;
";

/// Makes the database, and the folder that it is in; whether it was not there.
pub(super) fn create(path: &Path) -> Result<bool, Trouble> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut database = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        0 => {}
        VERSION => return Ok(false),
        other => return Err(Trouble::Schema(other)),
    }
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(true)
}

/// Opens a database that was made before.
pub(super) fn open(path: &Path) -> Result<Connection, Trouble> {
    if !path.exists() {
        return Err(Trouble::Missing);
    }
    let database = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match version(&database)? {
        VERSION => Ok(database),
        0 => Err(Trouble::Missing),
        other => Err(Trouble::Schema(other)),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Trouble> {
    let database = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(BUSY)?;
    // What is confirmed has to outlive the machine.
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "cache_size", -16_000)?;
    database.set_prepared_statement_cache_capacity(32);
    Ok(database)
}

fn version(database: &Connection) -> Result<i64, Trouble> {
    Ok(database.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

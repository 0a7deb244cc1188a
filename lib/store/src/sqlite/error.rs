//! What may go wrong with a file.

use rusqlite::ErrorCode;

use crate::StoreError;
use crate::view::{NoAnswer, Refusal, Uncompilable};

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// There is no such file, or no database in it.
    #[error("there is no database")]
    Missing,
    /// SQLite's words.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file was made by another version.
    #[error(
        "it was written by another version of Vogeler (its schema is {0}, and {ours} is known here); use that version, or \
         begin anew with another file",
        ours = super::schema::VERSION
    )]
    Schema(i64),
    /// It does not answer what was asked, as an HTTP status would say it.
    #[error("{1}")]
    Refused(u16, String),
    /// An index cannot be built because of a document.
    #[error("{0}")]
    Spoilt(String),
    /// What is in it cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// The thread that works for us is gone.
    #[error("{0}")]
    Ended(String),
    /// The file cannot be made.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Refusal::STATUS, refusal.to_string())
    }
}

impl From<Uncompilable> for Trouble {
    fn from(uncompilable: Uncompilable) -> Self {
        Self::Refused(400, uncompilable.to_string())
    }
}

impl From<NoAnswer<rusqlite::Error>> for Trouble {
    fn from(reason: NoAnswer<rusqlite::Error>) -> Self {
        match reason {
            NoAnswer::Index(error) => error.into(),
            NoAnswer::Damaged(error) => Self::Damaged(error.to_string()),
            NoAnswer::Reduce(reason) => Self::Refused(500, reason.to_string()),
        }
    }
}

impl Trouble {
    /// As the trait tells it.
    pub(super) fn into_error(self, address: &str) -> StoreError {
        let address = address.to_owned();
        let reason = self.to_string();
        match self {
            Self::Missing => StoreError::Missing { address },
            Self::Refused(status, reason) => StoreError::Refused { address, status, reason },
            Self::Spoilt(reason) => StoreError::Refused { address, status: 500, reason },
            Self::Damaged(_) => StoreError::Garbled { address, reason },
            Self::Schema(_) => StoreError::Unable { address, reason },
            Self::Ended(_) | Self::File(_) => StoreError::Away { address, reason },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(
                    ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied,
                ) => {
                    let reason = format!(
                        "{reason}; who asks has to be able to write the file and its folder, too, where the indexes of \
                         views and the log are"
                    );
                    StoreError::Unable { address, reason }
                }
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    let reason = format!("{reason}; put a copy in its place, or begin anew without it");
                    StoreError::Garbled { address, reason }
                }
                // No trouble of SQLite's: what stands there is of another type.
                None => StoreError::Garbled { address, reason },
                // Another process writes, the disk is full, the medium fails: it may be better later.
                _ => StoreError::Away { address, reason },
            },
        }
    }
}

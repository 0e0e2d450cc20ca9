//! What can go wrong with the database, told apart by what a person can do about it.

use std::path::PathBuf;

use crate::state_dir::Owner;
use torc_core::ids::WorkflowId;

/// The database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was ever run with this state directory.
    #[error(
        "there is no torc state in {0}; `torc run SPEC` creates it, and --output-dir names another place"
    )]
    Missing(PathBuf),
    /// Another process owns it.
    #[error("{path} is in use by {owner}; wait for it, end it, or choose another --output-dir",
        owner = .owner.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string))]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who, as far as its access file says.
        owner: Option<Owner>,
    },
    /// Another process has taken it over since; this one must not write any more.
    #[error("another torc has taken {0} over; this one stops without writing anything more")]
    TakenOver(PathBuf),
    /// It cannot be created or written.
    #[error("cannot write {path}: {reason}; choose another --output-dir or make it writable")]
    NotWritable {
        /// The database or its folder.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// No space is left.
    #[error("no space is left for {0}; free some, nothing is lost until then")]
    Full(PathBuf),
    /// The operating system did not take what was written: a quota is used up, for instance.
    #[error(
        "{path} could not be written: {reason} (is a quota used up?); nothing is lost until it can be"
    )]
    NotTaken {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// It exists, but is not ours to open.
    #[error("cannot open {path}: {reason}; if it is another user's, choose another --output-dir")]
    NotOpened {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// What it contains makes no sense.
    #[error(
        "{path} is damaged: {reason}; put a copy back, or move it away to begin anew (job output beside it is not affected)"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer torc wrote it.
    #[error(
        "{path} was written by a newer torc (schema {found}, this one knows {known}); use that version"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// There is no such workflow in it.
    #[error("there is no workflow {id} in {path}; it has {known}")]
    UnknownWorkflow {
        /// The database.
        path: PathBuf,
        /// Asked for.
        id: WorkflowId,
        /// The numbers that exist, for people.
        known: String,
    },
    /// Anything else that SQLite reports.
    #[error("{path}: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the same can succeed later without anybody changing the database.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Full(_) | Self::NotTaken { .. })
    }
}

/// SQLite's result codes, from <https://www.sqlite.org/rescode.html>.
mod result_code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
    pub(super) const IOERR_WRITE: i32 = 10 | 3 << 8;
    pub(super) const IOERR_FSYNC: i32 = 10 | 4 << 8;
    pub(super) const IOERR_LOCK: i32 = 10 | 15 << 8;
}

/// Sorts an error of SQLite's into what a person can do about it.
pub(super) fn classify(path: &std::path::Path, source: sqlx::Error) -> StoreError {
    let code = source
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok());
    let path = path.to_path_buf();
    let reason =
        source.as_database_error().map_or_else(String::new, |error| error.message().into());
    if let Some(result_code::IOERR_WRITE | result_code::IOERR_FSYNC) = code {
        return StoreError::NotTaken { path, reason };
    }
    if code == Some(result_code::IOERR_LOCK) {
        let reason = "it cannot be locked".to_owned();
        return StoreError::NotOpened { path, reason };
    }
    // Extended codes keep the primary one in their lowest byte.
    match code.map(|code| code & 0xff) {
        Some(result_code::BUSY | result_code::LOCKED) => {
            let owner = path.parent().and_then(Owner::read);
            StoreError::InUse { path, owner }
        }
        Some(result_code::FULL) => StoreError::Full(path),
        Some(result_code::READONLY) => StoreError::NotWritable { path, reason },
        Some(result_code::CANTOPEN | result_code::PERM) => StoreError::NotOpened { path, reason },
        Some(result_code::CORRUPT | result_code::NOTADB) => StoreError::Damaged { path, reason },
        _ => StoreError::Database { path, source },
    }
}

//! Opening the database: to own it, or to read it while nobody does.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row};

use super::error::classify;
use super::{Store, StoreError};
use crate::state_dir::StateDir;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long to wait for a process that has the database open only to read it.
const WAIT_FOR_READERS: Duration = Duration::from_secs(5);
/// The database holds users' environments and commands.
const OWNER_ONLY: u32 = 0o600;

impl Store {
    /// Takes the database over, and creates it where there is none.
    ///
    /// # Errors
    /// When another process owns it, or it cannot be created, read or brought up to date.
    pub async fn own(dir: &StateDir) -> Result<Self, StoreError> {
        let path = dir.database();
        create(dir.path(), &path)?;
        let mut connection = connect(&path, false).await?;
        migrate(&mut connection, &path, &MIGRATIONS).await?;
        let error = |source| classify(&path, source);
        let row = sqlx::query(
            "UPDATE owner SET generation = generation + 1 RETURNING generation, store_key",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(error)?;
        let generation = row.try_get(0).map_err(error)?;
        let key = row.try_get(1).map_err(error)?;
        Ok(Self { connection, path, generation: Some(generation), key })
    }

    /// Opens a database that nobody owns, to read it.
    ///
    /// # Errors
    /// When there is none, another process owns it, or it cannot be read.
    pub async fn read(dir: &StateDir) -> Result<Self, StoreError> {
        let path = dir.database();
        if !path.exists() {
            return Err(StoreError::Missing(dir.path().to_path_buf()));
        }
        let writable = access(dir.path(), AccessFlags::W_OK).is_ok()
            && access(&path, AccessFlags::W_OK).is_ok();
        if !writable && has_unread_log(&path) {
            let reason = "its log holds changes that cannot be read without writing".to_owned();
            return Err(StoreError::NotWritable { path, reason });
        }
        let mut connection = connect(&path, !writable).await?;
        let found = check_version(&mut connection, &path, &MIGRATIONS).await?;
        if found < newest(&MIGRATIONS) {
            if !writable {
                let reason = "an older torc wrote it, and it must be brought up to date".to_owned();
                return Err(StoreError::NotWritable { path, reason });
            }
            migrate(&mut connection, &path, &MIGRATIONS).await?;
        }
        Ok(Self { connection, path, generation: None, key: String::new() })
    }
}

/// Whether the write-ahead log beside a database has something in it. SQLite does not look there when
/// it is told that the file cannot change.
fn has_unread_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

fn create(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let not_writable = |path: &Path, error: io::Error| StoreError::NotWritable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(dir).map_err(|error| not_writable(dir, error))?;
    let created =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(not_writable(path, error))
        }
        // SQLite would call it an I/O error when it cannot lock the file.
        Err(_) => [dir, path].into_iter().try_for_each(|existing| {
            access(existing, AccessFlags::W_OK)
                .map_err(|error| not_writable(existing, error.into()))
        }),
    }
}

/// `immutable`: on media that cannot be written, where SQLite could not even lock.
async fn connect(path: &Path, immutable: bool) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(immutable)
        .immutable(immutable)
        .busy_timeout(WAIT_FOR_READERS)
        .disable_statement_logging();
    let options = if immutable {
        options
    } else {
        options
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
    };
    options.connect().await.map_err(|source| classify(path, source))
}

/// Brings the schema up to date, after a copy of the file if it has an older one.
async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    migrations: &Migrator,
) -> Result<(), StoreError> {
    let found = check_version(connection, path, migrations).await?;
    let known = newest(migrations);
    if found > 0 && found < known {
        let copy = copy_path(path, found);
        sqlx::query("VACUUM INTO ?")
            .bind(copy.to_string_lossy())
            .execute(&mut *connection)
            .await
            .map_err(|source| classify(path, source))?;
    }
    migrations.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            classify(path, source)
        }
        other => StoreError::Damaged { path: path.to_path_buf(), reason: other.to_string() },
    })
}

/// The schema's version, 0 for a new file.
async fn check_version(
    connection: &mut SqliteConnection,
    path: &Path,
    migrations: &Migrator,
) -> Result<i64, StoreError> {
    let error = |source| classify(path, source);
    let tables: i64 =
        sqlx::query("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(error)?;
    if tables == 0 {
        return Ok(0);
    }
    let found: i64 = sqlx::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(error)?;
    let known = newest(migrations);
    if found > known {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    Ok(found)
}

fn newest(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn copy_path(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema{version}.bak"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::SqlSafeStr;
    use sqlx::migrate::{Migration, MigrationType};

    fn migrator(statements: &[&'static str]) -> Migrator {
        let migrations = (1i64..).zip(statements).map(|(version, sql)| {
            Migration::new(
                version,
                "test".into(),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            )
        });
        Migrator::with_migrations(migrations.collect())
    }

    #[tokio::test]
    async fn an_older_schema_is_copied_and_brought_forward_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("torc.db");
        create(dir.path(), &path).unwrap();
        let mut connection = connect(&path, false).await.unwrap();
        let old = migrator(&["CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (7)"]);
        let new = migrator(&[
            "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (7)",
            "ALTER TABLE a ADD COLUMN y INTEGER",
        ]);
        migrate(&mut connection, &path, &old).await.unwrap();
        assert!(!copy_path(&path, 1).exists());
        migrate(&mut connection, &path, &new).await.unwrap();
        assert!(copy_path(&path, 1).exists());
        let x: i64 = sqlx::query("SELECT x FROM a WHERE y IS NULL")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get(0))
            .unwrap();
        assert_eq!(x, 7);
        let refused = migrate(&mut connection, &path, &old).await;
        assert!(
            matches!(refused, Err(StoreError::Newer { found: 2, known: 1, .. })),
            "{refused:?}"
        );
    }
}

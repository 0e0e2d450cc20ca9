//! Opening the database: to own it, or to read it while nobody does.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row};

use super::error::classify;
use super::ownership::Ownership;
use super::{OWNER_ONLY, Store, StoreError};
use crate::state_dir::StateDir;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long an owner may take to let go of the database, or one that only meant to change a word in it.
const WAIT_FOR_OWNER: Duration = Duration::from_secs(2);
/// How long those who read the database may take. Nobody begins to while it has an owner.
const WAIT_FOR_READERS: Duration = Duration::from_secs(30);
/// How long SQLite waits by itself before it is asked again.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to wait before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl Store {
    /// Takes the database over, and creates it where there is none.
    ///
    /// # Errors
    /// When another process owns it, or it cannot be created, read or brought up to date.
    pub async fn own(dir: &StateDir) -> Result<Self, StoreError> {
        let path = dir.database();
        create(dir.path(), &path)?;
        let take = || std::future::ready(Ownership::take(dir));
        let ownership = unless_in_use(WAIT_FOR_OWNER, take).await?;
        let (connection, generation, key) =
            unless_in_use(WAIT_FOR_READERS, || take_over(&path)).await?;
        let generation = Some(generation);
        Ok(Self { connection, path, generation, key, ownership: Some(ownership) })
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
        let deadline = Instant::now() + WAIT_FOR_READERS;
        loop {
            Ownership::check_free(dir)?;
            match open_to_read(dir.path(), &path).await {
                // By another who reads.
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(error),
                Ok(connection) => {
                    let key = String::new();
                    return Ok(Self { connection, path, generation: None, key, ownership: None });
                }
            }
        }
    }
}

/// Tries for so long until nobody else has the database.
pub(crate) async fn unless_in_use<T, F: Future<Output = Result<T, StoreError>>>(
    patience: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt().await {
            Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Brings the database up to date and begins a generation.
async fn take_over(path: &Path) -> Result<(SqliteConnection, i64, String), StoreError> {
    let mut connection = connect(path, false).await?;
    migrate(&mut connection, path, &MIGRATIONS).await?;
    let error = |source| classify(path, source);
    let row =
        sqlx::query("UPDATE owner SET generation = generation + 1 RETURNING generation, store_key")
            .fetch_one(&mut connection)
            .await
            .map_err(error)?;
    let generation = row.try_get(0).map_err(error)?;
    let key = row.try_get(1).map_err(error)?;
    Ok((connection, generation, key))
}

async fn open_to_read(dir: &Path, path: &Path) -> Result<SqliteConnection, StoreError> {
    let path_buf = || path.to_path_buf();
    let writable =
        access(dir, AccessFlags::W_OK).is_ok() && access(path, AccessFlags::W_OK).is_ok();
    if !writable && has_unread_log(path) {
        let reason = "its log holds changes that cannot be read without writing".to_owned();
        return Err(StoreError::NotWritable { path: path_buf(), reason });
    }
    let mut connection = connect(path, !writable).await?;
    let found = check_version(&mut connection, path, &MIGRATIONS).await?;
    if found < newest(&MIGRATIONS) {
        if !writable {
            let reason = "an older torc wrote it, and it must be brought up to date".to_owned();
            return Err(StoreError::NotWritable { path: path_buf(), reason });
        }
        migrate(&mut connection, path, &MIGRATIONS).await?;
    }
    Ok(connection)
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
        .busy_timeout(BUSY_TIMEOUT)
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

    #[tokio::test]
    async fn an_owner_waits_for_those_who_read_and_nobody_begins_to_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path()).unwrap();
        Store::own(&dir).await.unwrap().close().await.unwrap();
        let reader = Store::read(&dir).await.unwrap();
        let owning = tokio::spawn({
            let dir = dir.clone();
            async move { Store::own(&dir).await }
        });
        while Ownership::check_free(&dir).is_ok() {
            tokio::task::yield_now().await;
        }
        let refused = Store::read(&dir).await.err();
        assert!(matches!(refused, Some(StoreError::InUse { .. })), "{refused:?}");
        assert!(!owning.is_finished());
        reader.close().await.unwrap();
        let owner = owning.await.unwrap().unwrap();
        let refused = Store::own(&dir).await.err();
        assert!(matches!(refused, Some(StoreError::InUse { .. })), "{refused:?}");
        owner.close().await.unwrap();
        Store::read(&dir).await.unwrap();
    }
}

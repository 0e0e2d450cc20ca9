//! The database: workflows as they were submitted, and the log of what happened to each.
//!
//! The only place with SQL. One process owns it at a time: the lease is the lock of `ownership` and
//! SQLite's own exclusive lock, both held from opening to closing and given back by the kernel when the
//! process dies, plus a generation that every append checks. With exclusive locking SQLite needs no
//! shared memory, which
//! network file systems lack (<https://www.sqlite.org/wal.html#noshm>). An append that returned is
//! durable: write-ahead log, synchronous = FULL.

mod error;
mod open;
mod ownership;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::StoreError;
use error::classify;
pub(crate) use open::unless_in_use;
use ownership::Ownership;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use torc_core::engine::Event;
use torc_core::ids::WorkflowId;
use torc_core::os_text::OsText;
use torc_core::time::Timestamp;
use torc_core::workflow::{Header, Job, Workflow};

/// Jobs in one row. Large enough that a row costs little beside them, small enough that one fits a
/// buffer.
const JOBS_IN_CHUNK: usize = 1_000;
/// Events in one row of a log that is taken over as a whole.
const EVENTS_IN_ROW: usize = 1_000;
/// The permissions of its files: the database holds users' environments and commands.
const OWNER_ONLY: u32 = 0o600;

/// An open database, owned by this process.
pub struct Store {
    connection: SqliteConnection,
    path: PathBuf,
    /// `None`: opened to read.
    generation: Option<i64>,
    key: String,
    /// `None`: opened to read. Given back after the database has been closed.
    ownership: Option<Ownership>,
}

/// Where a workflow came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The folder it was submitted in, absolute: its jobs' working folder.
    pub submission_dir: String,
    /// The spec's file, absolute; `None`: standard input.
    pub spec_path: Option<String>,
    /// When.
    pub submitted_at: Timestamp,
    /// What it was submitted with to a server; `None`: it is run where it was typed.
    pub submitter: Option<Submitter>,
}

/// What the allocations, jobs and commands of a workflow start from, when a server runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitter {
    /// The environment, less the variables of an allocation it may have been submitted from.
    pub env: Vec<(OsText, OsText)>,
    /// The file mode creation mask.
    pub umask: u32,
}

/// A workflow with all that happened to it.
#[derive(Debug)]
pub struct StoredWorkflow {
    /// Its number.
    pub id: WorkflowId,
    /// Where it came from.
    pub origin: Origin,
    /// What was submitted.
    pub workflow: Arc<Workflow>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// The sequence number of the next append.
    pub next_sequence: i64,
}

impl Store {
    /// Stores a new workflow, all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be written, or another process has taken the database over.
    pub async fn add_workflow(
        &mut self,
        workflow: &Workflow,
        origin: &Origin,
    ) -> Result<WorkflowId, StoreError> {
        self.add_with_events(workflow, origin, &[]).await
    }

    /// The same for one to which something has happened already.
    ///
    /// # Errors
    /// As [`Self::add_workflow`].
    pub async fn add_with_events(
        &mut self,
        workflow: &Workflow,
        origin: &Origin,
        events: &[Event],
    ) -> Result<WorkflowId, StoreError> {
        let path = self.path.clone();
        let error = |source| classify(&path, source);
        let generation = self.generation;
        let mut transaction = sqlx::Connection::begin(&mut self.connection).await.map_err(error)?;
        let inserted = sqlx::query(
            "INSERT INTO workflow
                 (submitted_at, submission_dir, spec_path, header, environment, umask)
             SELECT ?, ?, ?, ?, ?, ? WHERE (SELECT generation FROM owner) = ?",
        )
        .bind(i64::try_from(origin.submitted_at.0).unwrap_or(i64::MAX))
        .bind(&origin.submission_dir)
        .bind(&origin.spec_path)
        .bind(to_json(&workflow.header))
        .bind(origin.submitter.as_ref().map(|submitter| to_json(&submitter.env)))
        .bind(origin.submitter.as_ref().map(|submitter| submitter.umask))
        .bind(generation)
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::TakenOver(path));
        }
        let id = inserted.last_insert_rowid();
        for (chunk, jobs) in (0i64..).zip(workflow.jobs.chunks(JOBS_IN_CHUNK)) {
            sqlx::query("INSERT INTO job_chunk (workflow, chunk, jobs) VALUES (?, ?, ?)")
                .bind(id)
                .bind(chunk)
                .bind(to_json(&jobs))
                .execute(&mut *transaction)
                .await
                .map_err(error)?;
        }
        for (sequence, events) in (0i64..).zip(events.chunks(EVENTS_IN_ROW)) {
            sqlx::query("INSERT INTO log (workflow, sequence, events) VALUES (?, ?, ?)")
                .bind(id)
                .bind(sequence)
                .bind(to_json(&events))
                .execute(&mut *transaction)
                .await
                .map_err(error)?;
        }
        transaction.commit().await.map_err(error)?;
        u32::try_from(id).map(WorkflowId).map_err(|_| damaged(&path, "workflow number too large"))
    }

    /// Makes events durable: all of them or none.
    ///
    /// # Errors
    /// When they cannot be written, or another process has taken the database over.
    pub async fn append(
        &mut self,
        workflow: WorkflowId,
        sequence: i64,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO log (workflow, sequence, events)
             SELECT ?, ?, ? WHERE (SELECT generation FROM owner) = ?",
        )
        .bind(workflow.0)
        .bind(sequence)
        .bind(to_json(&events))
        .bind(self.generation)
        .execute(&mut self.connection)
        .await
        .map_err(|source| classify(&self.path, source))?;
        match inserted.rows_affected() {
            0 => Err(StoreError::TakenOver(self.path.clone())),
            _ => Ok(()),
        }
    }

    /// Deletes a workflow with its log. Its number is not given again.
    ///
    /// # Errors
    /// When there is no such workflow, it cannot be written, or another process has taken the database over.
    pub async fn delete(&mut self, id: WorkflowId) -> Result<(), StoreError> {
        self.check_known(id).await?;
        let path = self.path.clone();
        let error = |source| classify(&path, source);
        let generation = self.generation;
        let mut transaction = sqlx::Connection::begin(&mut self.connection).await.map_err(error)?;
        let of_it =
            ["DELETE FROM log WHERE workflow = ?", "DELETE FROM job_chunk WHERE workflow = ?"];
        for query in of_it {
            sqlx::query(query).bind(id.0).execute(&mut *transaction).await.map_err(error)?;
        }
        let deleted =
            sqlx::query("DELETE FROM workflow WHERE id = ? AND (SELECT generation FROM owner) = ?")
                .bind(id.0)
                .bind(generation)
                .execute(&mut *transaction)
                .await
                .map_err(error)?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::TakenOver(path));
        }
        transaction.commit().await.map_err(error)
    }

    /// How often the database was taken over, this time included; 0 when it is only read.
    pub fn generation(&self) -> i64 {
        self.generation.unwrap_or(0)
    }

    /// A name that no other database has.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The numbers of the workflows that were submitted to a server, ascending.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn submitted_ids(&mut self) -> Result<Vec<WorkflowId>, StoreError> {
        self.ids("SELECT id FROM workflow WHERE environment IS NOT NULL ORDER BY id").await
    }

    /// The numbers of all workflows, ascending.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn workflow_ids(&mut self) -> Result<Vec<WorkflowId>, StoreError> {
        self.ids("SELECT id FROM workflow ORDER BY id").await
    }

    async fn ids(&mut self, query: &'static str) -> Result<Vec<WorkflowId>, StoreError> {
        let rows = sqlx::query(query)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| classify(&self.path, source))?;
        rows.iter()
            .map(|row| {
                let id: i64 = row.try_get(0).map_err(|source| classify(&self.path, source))?;
                u32::try_from(id)
                    .map(WorkflowId)
                    .map_err(|_| damaged(&self.path, "a workflow number is out of range"))
            })
            .collect()
    }

    /// A workflow with all that happened to it; the latest when none is named.
    ///
    /// # Errors
    /// When there is none, or what is stored makes no sense.
    pub async fn load(&mut self, id: Option<WorkflowId>) -> Result<StoredWorkflow, StoreError> {
        let id = match id.or(self.workflow_ids().await?.last().copied()) {
            Some(id) => id,
            None => {
                return Err(StoreError::Missing(
                    self.path.parent().unwrap_or(&self.path).to_path_buf(),
                ));
            }
        };
        self.check_known(id).await?;
        let (origin, header) = self.load_header(id).await?;
        let jobs = self.load_jobs(id).await?;
        let (events, next_sequence) = self.load_log(id).await?;
        let workflow = Arc::new(Workflow { header, jobs });
        workflow.check_references().map_err(|reason| damaged(&self.path, reason))?;
        Ok(StoredWorkflow { id, origin, workflow, events, next_sequence })
    }

    async fn check_known(&mut self, id: WorkflowId) -> Result<(), StoreError> {
        let known = self.workflow_ids().await?;
        if known.contains(&id) {
            return Ok(());
        }
        let path = self.path.clone();
        Err(StoreError::UnknownWorkflow { path, id, known: range_words(&known) })
    }

    /// The error for content that parses but cannot be.
    pub(crate) fn damaged(&self, reason: impl ToString) -> StoreError {
        damaged(&self.path, reason)
    }

    async fn load_header(&mut self, id: WorkflowId) -> Result<(Origin, Header), StoreError> {
        let path = &self.path;
        let error = |source| classify(path, source);
        let row = sqlx::query(
            "SELECT submitted_at, submission_dir, spec_path, header, environment, umask
             FROM workflow WHERE id = ?",
        )
        .bind(id.0)
        .fetch_one(&mut self.connection)
        .await
        .map_err(error)?;
        let submitted_at: i64 = row.try_get(0).map_err(error)?;
        let origin = Origin {
            submitted_at: Timestamp(u64::try_from(submitted_at).unwrap_or(0)),
            submission_dir: row.try_get(1).map_err(error)?,
            spec_path: row.try_get(2).map_err(error)?,
            submitter: None,
        };
        let env: Option<&str> = row.try_get(4).map_err(error)?;
        let umask: Option<u32> = row.try_get(5).map_err(error)?;
        let submitter = match (env, umask) {
            (Some(env), Some(umask)) => Some(Submitter { env: from_json(path, env)?, umask }),
            _ => None,
        };
        let origin = Origin { submitter, ..origin };
        let header: &str = row.try_get(3).map_err(error)?;
        Ok((origin, from_json(path, header)?))
    }

    async fn load_jobs(&mut self, id: WorkflowId) -> Result<Vec<Job>, StoreError> {
        let path = &self.path;
        let rows = sqlx::query("SELECT jobs FROM job_chunk WHERE workflow = ? ORDER BY chunk")
            .bind(id.0)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| classify(path, source))?;
        let mut jobs: Vec<Job> = Vec::with_capacity(rows.len() * JOBS_IN_CHUNK);
        for row in rows {
            let text: &str = row.try_get(0).map_err(|source| classify(path, source))?;
            for mut job in from_json::<Vec<Job>>(path, text)? {
                // What one parameter range made shares its environment and labels again.
                if let Some(previous) = jobs.last() {
                    share_with(&mut job, previous);
                }
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    async fn load_log(&mut self, id: WorkflowId) -> Result<(Vec<Event>, i64), StoreError> {
        let path = &self.path;
        let error = |source| classify(path, source);
        let rows =
            sqlx::query("SELECT sequence, events FROM log WHERE workflow = ? ORDER BY sequence")
                .bind(id.0)
                .fetch_all(&mut self.connection)
                .await
                .map_err(error)?;
        let mut events = Vec::new();
        let mut next_sequence = 0;
        for row in rows {
            let sequence: i64 = row.try_get(0).map_err(error)?;
            if sequence != next_sequence {
                return Err(damaged(path, format!("the log of workflow {id} has a gap")));
            }
            next_sequence += 1;
            events.extend(from_json::<Vec<Event>>(path, row.try_get(1).map_err(error)?)?);
        }
        Ok((events, next_sequence))
    }

    /// Closes the database; the next process can have it.
    ///
    /// # Errors
    /// When what is in the write-ahead log cannot be moved to the main file; it is not lost.
    pub async fn close(self) -> Result<(), StoreError> {
        let closed = sqlx::Connection::close(self.connection).await;
        drop(self.ownership);
        closed.map_err(|source| classify(&self.path, source))
    }
}

fn share_with(job: &mut Job, previous: &Job) {
    if job.env == previous.env {
        job.env.clone_from(&previous.env);
    }
    if job.labels == previous.labels {
        job.labels.clone_from(&previous.labels);
    }
    if job.stdio == previous.stdio {
        job.stdio.clone_from(&previous.stdio);
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types have string keys and serialize")
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(path, error))
}

fn damaged(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
}

fn range_words(ids: &[WorkflowId]) -> String {
    match ids {
        [] => "none".to_owned(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

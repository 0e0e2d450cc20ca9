//! Looking at a state directory from outside: through the process that owns it, or in the store when
//! nobody does.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;
use torc_core::ids::WorkflowId;
use torc_core::time::Timestamp;
use torc_core::wire::{
    AllocationReport, AttemptReport, ErrorReport, FileReport, JobReport, PROTOCOL,
    RestartPlanReport, RestartReport, RestartRequest, ServerReport, SubmitReport, SubmitRequest,
    UserDataReport, WorkflowReport,
};
use torc_core::workflow::Workflow;

use crate::api::Selection;
use crate::archive::{Archive, refusal};
use crate::clock::now;
use crate::known_dirs;
use crate::link::client::Client;
use crate::restarting::Restart;
use crate::state_dir::{Owner, StateDir};
use crate::store::{Store, StoreError, unless_in_use};
use crate::stored::StoredView;
use crate::view::View;

mod changes;

/// A server answers a question within milliseconds; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a restart, for which input files may have to be read.
const PATIENCE_WITH_FILES: Duration = Duration::from_secs(600);
/// How long a process may have the database before it listens, or after it has stopped listening.
const TRANSITION: Duration = Duration::from_secs(10);
/// How long to wait before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A state directory could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The owner does not answer.
    #[error("{owner} does not answer: {reason}")]
    Silent {
        /// Who should.
        owner: Box<Owner>,
        /// What happened.
        reason: String,
    },
    /// The owner speaks another protocol.
    #[error("{owner} speaks protocol {}, this torc {PROTOCOL}; use the same version of torc", .owner.protocol)]
    OtherProtocol {
        /// Who.
        owner: Box<Owner>,
    },
    /// The owner said no.
    #[error("{0}")]
    Refused(String),
    /// The owner ends, or has ended what was asked about.
    #[error("{0}")]
    Over(String),
    /// The owner said that it can never run here.
    #[error("{0}")]
    NeverRuns(String),
    /// The owner said that something is missing where it runs.
    #[error("{0}")]
    Lacking(String),
    /// Nobody serves the state directory.
    #[error("no server runs for this state directory; `torc serve` starts one")]
    NoServer,
}

/// What to know of a workflow before it runs again.
#[derive(Clone, Debug)]
pub struct StoredWorkflow {
    /// It was submitted to a server.
    pub was_submitted: bool,
    /// What was submitted.
    pub workflow: Arc<Workflow>,
}

/// A way to look at a state directory.
pub enum Access {
    /// Through the process that owns it.
    Live(Box<Owner>, StateDir),
    /// In the store, which nobody owns.
    Stored(Box<Mutex<Store>>, StateDir),
}

impl Access {
    /// Finds out who can be asked.
    ///
    /// # Errors
    /// When there is nothing, or who owns it does not answer.
    pub async fn open(dir: &StateDir) -> Result<Self, AccessError> {
        let deadline = Instant::now() + TRANSITION;
        loop {
            if let Some(owner) = Self::live_owner(dir).await? {
                return Ok(Self::Live(Box::new(owner), dir.clone()));
            }
            match Store::read(dir).await {
                Ok(store) => return Ok(Self::Stored(Box::new(Mutex::new(store)), dir.clone())),
                // Its owner is just about to listen, or to go.
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The process that owns the directory, if it answers.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub async fn live_owner(dir: &StateDir) -> Result<Option<Owner>, AccessError> {
        let Some(owner) = Owner::read(dir.path()) else { return Ok(None) };
        match ask::<ServerReport>(&owner, Method::GET, "/v1/server", Vec::new()).await {
            Ok(report) if report.instance == owner.instance && report.protocol == PROTOCOL => {
                Ok(Some(owner))
            }
            Ok(report) if report.instance == owner.instance => {
                Err(AccessError::OtherProtocol { owner: Box::new(owner) })
            }
            // The note is a dead process's, and its socket is another's now.
            Ok(_) | Err(AccessError::Silent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A workflow as a whole; the latest, or the one that runs, when none is named.
    ///
    /// # Errors
    /// When it cannot be asked for or does not exist.
    pub async fn workflow(&self, id: Option<WorkflowId>) -> Result<WorkflowReport, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        self.look("workflow", &asked, |view| view.workflow()).await
    }

    /// Its jobs in expansion order.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn jobs(&self, id: Option<WorkflowId>) -> Result<Vec<JobReport>, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        self.look("jobs", &asked, |view| view.jobs(None)).await
    }

    /// One of its jobs; `None`: there is none with this name.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn job(
        &self,
        id: Option<WorkflowId>,
        name: &str,
    ) -> Result<Option<JobReport>, AccessError> {
        let asked = Selection { id, job: Some(name.to_owned()), ..Selection::default() };
        Ok(self.look("jobs", &asked, |view| view.jobs(Some(name))).await?.pop())
    }

    /// Its attempts of all runs, in the order of their dispatch.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn attempts(
        &self,
        id: Option<WorkflowId>,
    ) -> Result<Vec<AttemptReport>, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        self.look("attempts", &asked, |view| view.attempts(0, None)).await
    }

    /// One of its attempts, named `wf<W>_j<J>_r<R>_a<A>`; `None`: there is none.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn attempt(
        &self,
        id: Option<WorkflowId>,
        step: &str,
    ) -> Result<Option<AttemptReport>, AccessError> {
        let asked = Selection { id, step: Some(step.to_owned()), ..Selection::default() };
        Ok(self.look("attempts", &asked, |view| view.attempts(0, Some(step))).await?.pop())
    }

    /// Its allocations, from the wish for each to its end.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn allocations(
        &self,
        id: Option<WorkflowId>,
    ) -> Result<Vec<AllocationReport>, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        self.look("allocations", &asked, |view| view.allocations()).await
    }

    /// Its files, in the order of the spec, and whether they are there, as this host sees it.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn files(&self, id: Option<WorkflowId>) -> Result<Vec<FileReport>, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        let files: Vec<FileReport> = self.look("files", &asked, |view| view.files()).await?;
        Ok(files.into_iter().map(looked_at).collect())
    }

    /// Its user data with its present values, in the order of the spec.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn user_data(
        &self,
        id: Option<WorkflowId>,
    ) -> Result<Vec<UserDataReport>, AccessError> {
        let asked = Selection { id, ..Selection::default() };
        self.look("user-data", &asked, |view| view.user_data()).await
    }

    /// What to know of a workflow that nobody runs now before it runs again; the latest when none is named.
    ///
    /// # Errors
    /// When it cannot be looked at or does not exist.
    pub async fn stored(
        dir: &StateDir,
        id: Option<WorkflowId>,
    ) -> Result<StoredWorkflow, AccessError> {
        let mut store = unless_in_use(TRANSITION, || Store::read(dir)).await?;
        let stored = StoredView::load(&mut store, id, "").await?;
        store.close().await?;
        Ok(StoredWorkflow {
            was_submitted: stored.origin.submitter.is_some(),
            workflow: Arc::clone(stored.engine.workflow()),
        })
    }

    /// The numbers of all workflows, ascending.
    ///
    /// # Errors
    /// When they cannot be asked for.
    pub async fn workflow_ids(&self) -> Result<Vec<WorkflowId>, AccessError> {
        match self {
            Self::Live(owner, _) => ask(owner, Method::GET, "/v1/workflows", Vec::new()).await,
            Self::Stored(store, _) => Ok(store.lock().await.workflow_ids().await?),
        }
    }

    /// A workflow with all that happened to it; the latest when none is named.
    ///
    /// # Errors
    /// As [`Self::workflow`].
    pub async fn export(&self, id: Option<WorkflowId>) -> Result<Archive, AccessError> {
        match self {
            Self::Live(owner, _) => {
                let path =
                    format!("/v1/export?{}", query(&Selection { id, ..Selection::default() }));
                ask(owner, Method::GET, &path, Vec::new()).await
            }
            Self::Stored(store, _) => Ok(Archive::of(store.lock().await.load(id).await?)),
        }
    }

    /// Takes a workflow in, under a number of its own here.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn import(dir: &StateDir, archive: &Archive) -> Result<WorkflowId, AccessError> {
        if let Some(owner) = Self::live_owner(dir).await? {
            return ask(&owner, Method::POST, "/v1/import", to_json(archive)).await;
        }
        let mut store = Store::own(dir).await?;
        known_dirs::note(dir);
        let Archive { workflow, events, .. } = archive;
        let id = store.add_with_events(workflow, &archive.origin(), events).await?;
        store.close().await?;
        Ok(id)
    }

    /// Deletes a workflow with all that is stored of it. The files of its jobs' output stay.
    ///
    /// # Errors
    /// When it runs, was submitted and has not ended, does not exist, or cannot be deleted.
    pub async fn delete(dir: &StateDir, id: WorkflowId) -> Result<(), AccessError> {
        if let Some(owner) = Self::live_owner(dir).await? {
            let asked = Selection { id: Some(id), ..Selection::default() };
            let path = format!("/v1/delete?{}", query(&asked));
            return ask(&owner, Method::POST, &path, Vec::new()).await;
        }
        if !dir.database().exists() {
            return Err(StoreError::Missing(dir.path().to_path_buf()).into());
        }
        let mut store = Store::own(dir).await?;
        let stored = StoredView::load(&mut store, Some(id), "").await?;
        if let Some(why) = refusal(&stored) {
            store.close().await?;
            return Err(AccessError::Refused(why));
        }
        store.delete(id).await?;
        store.close().await?;
        Ok(())
    }

    /// Gives a workflow to the server of a state directory.
    ///
    /// # Errors
    /// When there is none, or it does not take the workflow.
    pub async fn submit(
        dir: &StateDir,
        request: &SubmitRequest,
    ) -> Result<SubmitReport, AccessError> {
        let owner = Self::live_owner(dir).await?.ok_or(AccessError::NoServer)?;
        ask(&owner, Method::POST, "/v1/submit", to_json(request)).await
    }

    /// Has the server of a state directory end, and waits until the directory is nobody's. Whether there
    /// was one.
    ///
    /// # Errors
    /// When it does not answer, or does not end.
    pub async fn stop_server(dir: &StateDir) -> Result<bool, AccessError> {
        let Some(owner) = Self::live_owner(dir).await? else { return Ok(false) };
        ask::<()>(&owner, Method::POST, "/v1/shutdown", Vec::new()).await?;
        unless_in_use(PATIENCE, || Store::read(dir)).await?.close().await?;
        Ok(true)
    }

    async fn look<T: DeserializeOwned>(
        &self,
        what: &str,
        asked: &Selection,
        read: impl FnOnce(&View<'_>) -> T,
    ) -> Result<T, AccessError> {
        let path = format!("/v1/{what}?{}", query(asked));
        let question = |owner| ask(owner, Method::GET, &path, Vec::new());
        let successor;
        let (store, dir) = match self {
            Self::Stored(store, dir) => (store, dir),
            Self::Live(owner, dir) => {
                let error = match question(owner).await {
                    Err(error @ (AccessError::Silent { .. } | AccessError::Over(_))) => error,
                    answer => return answer,
                };
                // It may have ended just now.
                successor = Self::open(dir).await;
                match &successor {
                    Ok(Self::Stored(store, dir)) => (store, dir),
                    Ok(Self::Live(owner, _)) => return question(owner).await,
                    Err(_) => return Err(error),
                }
            }
        };
        let output_dir = dir.path().to_string_lossy();
        let mut store = store.lock().await;
        let stored = StoredView::load(&mut store, asked.id, &output_dir).await?;
        Ok(read(&stored.view(now())))
    }

    /// Puts the jobs of the run under way that did not complete back into it. `None`: nobody runs a
    /// workflow now.
    ///
    /// # Errors
    /// When the owner does not answer, runs another workflow, or its run is over; when more is wished than
    /// can be done in the run under way.
    pub async fn restart_live(
        dir: &StateDir,
        id: Option<WorkflowId>,
        request: &RestartRequest,
    ) -> Result<Option<RestartReport>, AccessError> {
        let Some(owner) = Self::live_owner(dir).await? else { return Ok(None) };
        let asked = Selection { id, ..Selection::default() };
        let path = format!("/v1/restart?{}", query(&asked));
        let asking = (Method::POST, path.as_str());
        ask_within(PATIENCE_WITH_FILES, &owner, asking, to_json(request)).await.map(Some)
    }

    /// What a restart would do. Nothing changes.
    ///
    /// # Errors
    /// As [`Self::workflow`], and when more is wished than can be done in the run under way.
    pub async fn plan_restart(
        self,
        id: Option<WorkflowId>,
        request: RestartRequest,
    ) -> Result<RestartPlanReport, AccessError> {
        match self {
            Self::Live(owner, _) => {
                let asked = Selection { id, ..Selection::default() };
                let path = format!("/v1/restart/plan?{}", query(&asked));
                let asking = (Method::POST, path.as_str());
                ask_within(PATIENCE_WITH_FILES, &owner, asking, to_json(&request)).await
            }
            Self::Stored(store, _) => {
                let mut store = store.into_inner();
                let StoredView { engine, origin, .. } =
                    StoredView::load(&mut store, id, "").await?;
                store.close().await?;
                let decided = Restart::decide(engine, request, &origin.submission_dir).await;
                let (engine, restart) =
                    decided.map_err(|error| AccessError::Refused(error.to_string()))?;
                Ok(restart.report(&engine))
            }
        }
    }
}

/// A file with what there is of it.
fn looked_at(file: FileReport) -> FileReport {
    let Ok(found) = std::fs::metadata(&file.location) else { return file };
    let since = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).ok();
    let modified = found.modified().ok().and_then(since);
    let ms = |time: Duration| Timestamp(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    FileReport {
        exists: true,
        size: (!found.is_dir()).then_some(found.len()),
        modified_at: modified.map(ms),
        ..file
    }
}

fn query(asked: &Selection) -> String {
    serde_urlencoded::to_string(asked).expect("a flat structure of text and numbers serializes")
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types have string keys and serialize")
}

async fn ask<T: DeserializeOwned>(
    owner: &Owner,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, AccessError> {
    ask_within(PATIENCE, owner, (method, path), body).await
}

async fn ask_within<T: DeserializeOwned>(
    patience: Duration,
    owner: &Owner,
    (method, path): (Method, &str),
    body: Vec<u8>,
) -> Result<T, AccessError> {
    let silent = |reason: String| AccessError::Silent { owner: Box::new(owner.clone()), reason };
    let exchange = async { Client::reach(owner).await?.request(method, path, body).await };
    let answer = tokio::time::timeout(patience, exchange)
        .await
        .map_err(|_| silent(format!("no answer within {} s", patience.as_secs())))?;
    let (status, body) = answer.map_err(|error| silent(error.to_string()))?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| silent(error.to_string()));
    }
    match serde_json::from_slice::<ErrorReport>(&body) {
        Ok(report) if status == StatusCode::UNPROCESSABLE_ENTITY => {
            Err(AccessError::NeverRuns(report.error))
        }
        Ok(report) if status == StatusCode::FAILED_DEPENDENCY => {
            Err(AccessError::Lacking(report.error))
        }
        Ok(report) if status == StatusCode::GONE => Err(AccessError::Over(report.error)),
        Ok(report) => Err(AccessError::Refused(report.error)),
        Err(error) => Err(silent(error.to_string())),
    }
}

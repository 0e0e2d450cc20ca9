//! HTTP over a Unix socket: how a second terminal reaches a run.
//!
//! The socket lies in a folder that only its user can enter. Paths and shapes are those of
//! [`torc_core::wire`].

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use torc_core::ids::WorkflowId;
use torc_core::wire::{
    AddJobsRequest, CancelRequest, ErrorReport, PROTOCOL, RestartPlanReport, RestartRequest,
    ServerReport, UserDataRequest,
};

use crate::archive::{self, Archive};
use crate::change::Change;
use crate::handle::{Handle, RequestError};
use crate::leave_out::{Disable, Enable};
use crate::restarting::{Restart, live_report};
use crate::state_dir::{Owner, StateDir};
use crate::store::StoreError;
use crate::store_task::StoreTask;
use crate::stored::StoredView;
use crate::view::View;

/// Nobody could reach this process.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The folder for sockets is not safe or cannot be made.
    #[error(
        "cannot use {path} for the socket of this run: {reason}; set XDG_RUNTIME_DIR to a folder of yours"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
}

/// The listening side. Ends with [`Self::close`].
pub(crate) struct Api {
    task: JoinHandle<()>,
    socket: PathBuf,
}

/// Who has the answers: the driver of the one workflow that runs here, or a server with many.
#[derive(Clone)]
pub(crate) enum Desk {
    One { handle: Handle, workflow: WorkflowId, instance: Arc<str>, store: StoreTask },
    Many(Arc<crate::serve::Runs>),
}

/// What a question is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// The workflow; the one that runs when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<WorkflowId>,
    /// Only this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
    /// Only this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<String>,
}

impl Api {
    /// How this process can be found, once it listens.
    pub(crate) fn owner() -> Result<Owner, ApiError> {
        Ok(Owner::this_process(&socket_folder()?))
    }

    /// Begins to answer, and leaves word about it.
    pub(crate) fn listen(dir: &StateDir, owner: &Owner, router: Router) -> Result<Self, ApiError> {
        let socket = owner.socket.clone();
        let listen_error = |source| ApiError::Listen { path: socket.clone(), source };
        if let Some(folder) = socket.parent() {
            remove_abandoned(folder);
        }
        let listener = UnixListener::bind(&socket).map_err(listen_error)?;
        dir.announce(owner).map_err(listen_error)?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the socket of this run failed");
            }
        });
        Ok(Self { task, socket })
    }

    pub(crate) fn close(&self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The longest question: a workflow of a million jobs fits.
pub(crate) const LONGEST_BODY: usize = 1 << 30;

/// The answers that everybody who runs workflows has.
pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/server", get(server))
        .route("/v1/workflow", get(workflow_report))
        .route("/v1/jobs", get(jobs).post(add_jobs))
        .route("/v1/attempts", get(attempts))
        .route("/v1/allocations", get(allocations))
        .route("/v1/cancel", post(cancel))
        .route("/v1/restart", post(restart))
        .route("/v1/restart/plan", post(plan_restart))
        .route("/v1/disable", post(disable))
        .route("/v1/enable", post(enable))
        .route("/v1/files", get(files))
        .route("/v1/user-data", get(user_data).post(set_user_data))
        .route("/v1/workflows", get(workflows))
        .route("/v1/export", get(export))
        .route("/v1/import", post(import))
        .route("/v1/delete", post(delete))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(desk)
}

/// Longest path of a socket in bytes (unix(7)).
const LONGEST_SOCKET: usize = 107;
/// Bytes to keep for a socket's own name.
const ROOM_FOR_NAME: usize = 32;

/// A folder with a short path that only this user can enter: below XDG_RUNTIME_DIR, or in /tmp where
/// that will not do.
fn socket_folder() -> Result<PathBuf, ApiError> {
    let uid = nix::unistd::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|runtime| runtime.is_absolute() && runtime.is_dir());
    if let Some(folder) = runtime.map(|runtime| runtime.join("torc"))
        && make_private(&folder, uid).is_ok()
    {
        return Ok(folder);
    }
    let folder = PathBuf::from(format!("/tmp/torc-{uid}"));
    make_private(&folder, uid)
        .map_err(|reason| ApiError::Folder { path: folder.clone(), reason })?;
    Ok(folder)
}

/// Makes a folder, or finds that it is as it would have been made; else says what is wrong.
fn make_private(folder: &Path, uid: u32) -> Result<(), String> {
    if folder.as_os_str().len() + ROOM_FOR_NAME > LONGEST_SOCKET {
        return Err("its path is too long for a socket".to_owned());
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error.to_string());
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err("it is not a folder that only you can enter".to_owned())
    }
}

/// Removes sockets that nobody listens on any more: those of processes that were killed.
fn remove_abandoned(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let refused = std::os::unix::net::UnixStream::connect(&path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            let _ = std::fs::remove_file(&path);
        }
    }
}

async fn server(State(desk): State<Desk>) -> Json<ServerReport> {
    let (instance, workflow) = match &desk {
        Desk::One { instance, workflow, .. } => (instance.to_string(), Some(*workflow)),
        Desk::Many(runs) => (runs.instance().to_owned(), runs.latest()),
    };
    Json(ServerReport {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        instance,
        workflow,
    })
}

async fn workflow_report(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(desk.look(asked.id, |view| view.workflow()).await)
}

async fn jobs(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(desk.look(asked.id, move |view| view.jobs(asked.job.as_deref())).await)
}

async fn attempts(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    let step = asked.step;
    answer(desk.look(asked.id, move |view| view.attempts(0, step.as_deref())).await)
}

async fn allocations(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(desk.look(asked.id, |view| view.allocations()).await)
}

async fn files(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(desk.look(asked.id, |view| view.files()).await)
}

async fn user_data(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(desk.look(asked.id, |view| view.user_data()).await)
}

async fn set_user_data(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<UserDataRequest>,
) -> Response {
    answer(desk.change(asked.id, request).await)
}

async fn add_jobs(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<AddJobsRequest>,
) -> Response {
    answer(desk.change(asked.id, request).await)
}

async fn cancel(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<CancelRequest>,
) -> Response {
    answer(match desk {
        Desk::Many(runs) => runs.cancel(asked.id, request).await,
        Desk::One { handle, workflow, .. } => match only(workflow, asked.id) {
            Ok(()) => handle.cancel(request).await,
            Err(refused) => Err(refused),
        },
    })
}

async fn disable(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<Disable>,
) -> Response {
    answer(desk.change(asked.id, request).await)
}

async fn enable(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<Enable>,
) -> Response {
    answer(desk.change(asked.id, request).await)
}

async fn restart(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<RestartRequest>,
) -> Response {
    answer(match desk {
        Desk::Many(runs) => runs.restart(asked.id, request).await,
        Desk::One { handle, workflow, .. } => match only(workflow, asked.id) {
            Ok(()) => handle.put_back(request.is_plain()).await,
            Err(refused) => Err(refused),
        },
    })
}

async fn plan_restart(
    State(desk): State<Desk>,
    Query(asked): Query<Selection>,
    Json(request): Json<RestartRequest>,
) -> Response {
    answer(desk.plan_restart(asked.id, request).await)
}

async fn workflows(State(desk): State<Desk>) -> Response {
    answer(in_store(desk.store().all()).await)
}

async fn export(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(in_store(desk.store().whole(asked.id)).await.map(Archive::of))
}

async fn import(State(desk): State<Desk>, Json(archive): Json<Archive>) -> Response {
    answer(match archive.check() {
        Ok(()) => in_store(desk.store().import(archive)).await,
        Err(error) => Err(RequestError::Refused(error.to_string())),
    })
}

async fn delete(State(desk): State<Desk>, Query(asked): Query<Selection>) -> Response {
    answer(match asked.id {
        Some(id) => desk.delete(id).await,
        None => Err(RequestError::Refused("which workflow is to be deleted?".to_owned())),
    })
}

async fn in_store<T>(
    reply: impl Future<Output = Option<Result<T, StoreError>>>,
) -> Result<T, RequestError> {
    Ok(reply.await.ok_or(RequestError::Over)??)
}

/// Only the workflow that runs can be changed.
fn only(running: WorkflowId, asked: Option<WorkflowId>) -> Result<(), RequestError> {
    match asked.filter(|asked| *asked != running) {
        None => Ok(()),
        asked => Err(RequestError::OtherWorkflow { asked, running }),
    }
}

impl Desk {
    fn store(&self) -> &StoreTask {
        match self {
            Self::One { store, .. } => store,
            Self::Many(runs) => &runs.store,
        }
    }

    /// Deletes a workflow that nobody drives.
    async fn delete(&self, id: WorkflowId) -> Result<(), RequestError> {
        // While it is held no run begins.
        let _beginning = match self {
            Self::One { .. } => None,
            Self::Many(runs) => Some(runs.beginning.lock().await),
        };
        let is_driven = match self {
            Self::One { workflow, .. } => *workflow == id,
            Self::Many(runs) => runs.handle(id).is_some(),
        };
        if is_driven {
            return Err(RequestError::Refused(archive::refusal_of_driven(id)));
        }
        let stored = in_store(self.store().load(Some(id))).await?;
        if let Some(why) = archive::refusal(&stored) {
            return Err(RequestError::Refused(why));
        }
        in_store(self.store().delete(id)).await
    }

    /// What a restart would do.
    async fn plan_restart(
        &self,
        id: Option<WorkflowId>,
        request: RestartRequest,
    ) -> Result<RestartPlanReport, RequestError> {
        let looked = self.look(id, |view| (view.engine.id(), live_report(view))).await;
        let (id, live) = looked?;
        match live {
            Some(_) if !request.is_plain() => Err(RequestError::under_way(id)),
            Some(report) => Ok(report),
            None => {
                let StoredView { engine, origin, .. } =
                    in_store(self.store().load(Some(id))).await?;
                let decided = Restart::decide(engine, request, &origin.submission_dir).await;
                let (engine, restart) = decided?;
                Ok(restart.report(&engine))
            }
        }
    }

    /// Changes a workflow: here the one that runs, at a server any.
    async fn change<C: Change>(
        self,
        id: Option<WorkflowId>,
        change: C,
    ) -> Result<C::Report, RequestError> {
        match self {
            Self::Many(runs) => runs.change(id, change).await,
            Self::One { handle, workflow, .. } => {
                only(workflow, id)?;
                handle.change(change).await
            }
        }
    }

    async fn look<T: Send + 'static>(
        &self,
        id: Option<WorkflowId>,
        answer: impl FnOnce(&View<'_>) -> T + Clone + Send + 'static,
    ) -> Result<T, RequestError> {
        match self {
            Self::One { handle, .. } => handle.look(id, answer).await,
            Self::Many(runs) => runs.look(id, answer).await,
        }
    }
}

pub(crate) fn answer<T: Serialize>(result: Result<T, RequestError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match error {
                RequestError::Over => StatusCode::GONE,
                RequestError::UnknownJob { .. } => StatusCode::NOT_FOUND,
                RequestError::OtherWorkflow { .. } => StatusCode::CONFLICT,
                RequestError::Refused(_) => StatusCode::BAD_REQUEST,
                RequestError::NeverRuns(_) => StatusCode::UNPROCESSABLE_ENTITY,
                RequestError::Placer(_) | RequestError::Lacking(_) => StatusCode::FAILED_DEPENDENCY,
                RequestError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(ErrorReport { error: error.to_string() })).into_response()
        }
    }
}

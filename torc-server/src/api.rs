//! HTTP over a Unix socket: how a second terminal reaches a run.
//!
//! The socket lies in a folder that only its user can enter. Paths and shapes are those of
//! [`torc_core::wire`].

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use torc_core::ids::WorkflowId;
use torc_core::wire::{CancelRequest, ErrorReport, PROTOCOL, ServerReport};

use crate::handle::{Handle, RequestError};
use crate::state_dir::{Owner, StateDir};

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

#[derive(Clone)]
struct Shared {
    handle: Handle,
    workflow: WorkflowId,
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
    pub(crate) fn listen(
        dir: &StateDir,
        handle: Handle,
        workflow: WorkflowId,
    ) -> Result<Self, ApiError> {
        let folder = socket_folder()?;
        let socket = folder.join(format!("{}.sock", std::process::id()));
        let listen_error = |source| ApiError::Listen { path: socket.clone(), source };
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(listen_error(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(listen_error)?;
        dir.announce(&Owner::this_process(socket.clone())).map_err(listen_error)?;
        let router = Router::new()
            .route("/v1/server", get(server))
            .route("/v1/workflow", get(workflow_report))
            .route("/v1/jobs", get(jobs))
            .route("/v1/attempts", get(attempts))
            .route("/v1/cancel", post(cancel))
            .with_state(Shared { handle, workflow });
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

/// A folder with a short path, since a socket's is limited to 107 bytes (unix(7)), that only this
/// user can enter.
fn socket_folder() -> Result<PathBuf, ApiError> {
    let uid = nix::unistd::geteuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("torc"),
        _ => PathBuf::from(format!("/tmp/torc-{uid}")),
    };
    let unsafe_folder = |reason: String| ApiError::Folder { path: folder.clone(), reason };
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(unsafe_folder(error.to_string()));
        }
        _ => {}
    }
    let found =
        std::fs::symlink_metadata(&folder).map_err(|error| unsafe_folder(error.to_string()))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(unsafe_folder("it is not a folder that only you can enter".to_owned()));
    }
    Ok(folder)
}

async fn server(State(shared): State<Shared>) -> Json<ServerReport> {
    Json(ServerReport {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        workflow: Some(shared.workflow),
    })
}

async fn workflow_report(State(shared): State<Shared>, Query(asked): Query<Selection>) -> Response {
    answer(shared.handle.workflow(asked.id).await)
}

async fn jobs(State(shared): State<Shared>, Query(asked): Query<Selection>) -> Response {
    answer(shared.handle.look(asked.id, move |view| view.jobs(asked.job.as_deref())).await)
}

async fn attempts(State(shared): State<Shared>, Query(asked): Query<Selection>) -> Response {
    let step = asked.step;
    answer(shared.handle.look(asked.id, move |view| view.attempts(0, step.as_deref())).await)
}

async fn cancel(
    State(shared): State<Shared>,
    Query(asked): Query<Selection>,
    Json(request): Json<CancelRequest>,
) -> Response {
    if asked.id.is_some_and(|id| id != shared.workflow) {
        let error = RequestError::OtherWorkflow { asked: asked.id, running: shared.workflow };
        return answer::<()>(Err(error));
    }
    answer(shared.handle.cancel(request).await)
}

fn answer<T: Serialize>(result: Result<T, RequestError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match error {
                RequestError::Over => StatusCode::GONE,
                RequestError::UnknownJob { .. } => StatusCode::NOT_FOUND,
                RequestError::OtherWorkflow { .. } => StatusCode::CONFLICT,
                RequestError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(ErrorReport { error: error.to_string() })).into_response()
        }
    }
}

//! What only a server answers: submissions, workers, and the wish that it end.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::watch;
use torc_core::traits::StepEvent;
use torc_core::wire::link::{Hello, ToServer, ToWorker};
use torc_core::wire::{ErrorReport, PROTOCOL, SubmitReport, SubmitRequest};

use super::admission::SubmitError;
use super::runs::Runs;
use crate::api::{self, Desk, LONGEST_BODY};
use crate::handle::{Acknowledgement, Handle, Input, WorkerInput};
use crate::link::channel::{Channel, Settings};
use crate::session::RunError;
use crate::workers::WorkerLink;

#[derive(Clone)]
struct Shared {
    runs: Arc<Runs>,
    stop: watch::Sender<bool>,
}

/// All that a server answers.
pub(super) fn router(runs: Arc<Runs>, stop: watch::Sender<bool>) -> Router {
    let own = Router::new()
        .route("/v1/submit", post(submit))
        .route("/v1/worker", get(worker))
        .route("/v1/shutdown", post(shutdown))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Shared { runs: runs.clone(), stop });
    api::router(Desk::Many(runs)).merge(own)
}

async fn submit(State(shared): State<Shared>, Json(request): Json<SubmitRequest>) -> Response {
    match shared.runs.submit(request).await {
        Ok(workflow) => Json(SubmitReport { workflow }).into_response(),
        Err(SubmitError::Request(error)) => api::answer::<()>(Err(error)),
        Err(error) => {
            // What can never run is told apart from what is wrong with the question.
            let status = match error {
                SubmitError::Run(RunError::NeverRuns(_) | RunError::MissingFiles(_))
                | SubmitError::NoFit(_) => StatusCode::UNPROCESSABLE_ENTITY,
                SubmitError::Placer(_) => StatusCode::FAILED_DEPENDENCY,
                SubmitError::NotBegun(_) => StatusCode::INTERNAL_SERVER_ERROR,
                SubmitError::NoScheduler(_) => StatusCode::FAILED_DEPENDENCY,
                _ => StatusCode::BAD_REQUEST,
            };
            (status, Json(ErrorReport { error: words(&error) })).into_response()
        }
    }
}

fn words(error: &SubmitError) -> String {
    match error {
        SubmitError::Run(error) => error.full_text(),
        other => other.to_string(),
    }
}

async fn shutdown(State(shared): State<Shared>) -> Json<()> {
    let _ = shared.stop.send(true);
    Json(())
}

async fn worker(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    Channel::accept(upgrade, Settings::default(), move |channel| attend(shared.runs, channel))
}

/// Takes a worker's messages until its connection ends.
async fn attend(runs: Arc<Runs>, mut channel: Channel<ToServer, ToWorker>) {
    let link = WorkerLink { id: runs.next_link(), sender: channel.sender.clone() };
    let refuse = |reason: String| {
        link.send(ToWorker::Refused { reason });
        link.sender.close("refused");
    };
    let hello = match channel.receiver.next().await {
        Ok(ToServer::Hello(hello)) => hello,
        Ok(_) => return refuse("a worker begins by saying who it is".to_owned()),
        Err(ended) => {
            tracing::debug!(%ended, "a worker went before it said who it is");
            return;
        }
    };
    if hello.protocol != PROTOCOL {
        let reason = format!("it speaks protocol {}, this server {PROTOCOL}", hello.protocol);
        return refuse(reason);
    }
    if hello.generation > runs.generation() {
        // It is this server that is stale. A refusal would end the worker, which has another to find.
        return link.sender.close(&format!(
            "the worker has served generation {}, this server is only {}",
            hello.generation,
            runs.generation()
        ));
    }
    let Some(driver) = runs.handle(hello.workflow) else {
        return match runs.refusal(hello.workflow, hello.allocation).await {
            Some(reason) => refuse(reason),
            None => link.sender.close("nobody drives the workflow now; to be tried again"),
        };
    };
    let Hello { workflow, allocation, ref host, .. } = *hello;
    tracing::info!(%workflow, %allocation, host, "a worker has connected");
    driver.tell(Input::Worker(WorkerInput::Joined(hello, link.clone())));
    loop {
        let message = tokio::select! {
            message = channel.receiver.next() => message,
            () = driver.closed() => return link.sender.close("the server ends"),
        };
        match message {
            Ok(message) => pass_on(message, &driver, &link, allocation),
            Err(ended) => {
                tracing::info!(%workflow, %allocation, %ended, "a worker is gone");
                driver.tell(Input::Worker(WorkerInput::Left(allocation, link.id)));
                return;
            }
        }
    }
}

fn pass_on(
    message: ToServer,
    driver: &Handle,
    link: &WorkerLink,
    allocation: torc_core::ids::AllocationId,
) {
    driver.tell(match message {
        ToServer::Report(report) => {
            let acknowledgement = match &report {
                StepEvent::Ended { step, .. } => {
                    Some(Acknowledgement { link: link.clone(), step: *step })
                }
                _ => None,
            };
            Input::Step(report, acknowledgement)
        }
        ToServer::EndMoved(ends_at) => Input::Worker(WorkerInput::EndMoved(allocation, ends_at)),
        ToServer::CommandEnded(command, code) => Input::CommandEnded(command, code),
        ToServer::Hello(_) => return,
    });
}

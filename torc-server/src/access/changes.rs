//! Changes of a workflow: made by whoever runs it, or in its log when nobody does.
//!
//! Owns which of both is asked. Does not know what a change does. Invariant: a change is made once, and is durable
//! when the answer comes.

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use torc_core::ids::WorkflowId;
use torc_core::wire::{
    AddJobsAnswer, AddJobsRequest, CancelReport, CancelRequest, DisableReport, EnableReport,
    NamedJobs, UserDataReport, UserDataRequest,
};

use super::{Access, AccessError, LOOK_AGAIN, PATIENCE, ask, query, to_json};
use crate::api::Selection;
use crate::change::{Change, Moment};
use crate::clock::now;
use crate::driver::find_jobs;
use crate::leave_out::{Disable, Enable};
use crate::state_dir::StateDir;
use crate::store::{Store, StoreError};
use crate::stored::StoredView;

impl Access {
    /// Sets user data of a workflow: through who runs it, or in the store when nobody does.
    ///
    /// # Errors
    /// When there is no such user data, the value is too large, or it cannot be recorded; nothing has changed then.
    pub async fn set_user_data(
        dir: &StateDir,
        id: Option<WorkflowId>,
        request: &UserDataRequest,
    ) -> Result<UserDataReport, AccessError> {
        Self::change(dir, "user-data", id, request).await
    }

    /// Adds jobs to a workflow: through who runs it, or in the store when nobody does.
    ///
    /// # Errors
    /// When the workflow does not allow it, or it cannot be recorded; nothing has changed then. What is wrong with the
    /// text is an answer.
    pub async fn add_jobs(
        dir: &StateDir,
        id: Option<WorkflowId>,
        request: &AddJobsRequest,
    ) -> Result<AddJobsAnswer, AccessError> {
        Self::change(dir, "jobs", id, request).await
    }

    /// Makes a change through who runs the workflow, or in its log when nobody does: which of both can change while
    /// others do the same.
    async fn change<C>(
        dir: &StateDir,
        what: &str,
        id: Option<WorkflowId>,
        change: &C,
    ) -> Result<C::Report, AccessError>
    where
        C: Change + Serialize,
        C::Report: DeserializeOwned,
    {
        let asked = Selection { id, ..Selection::default() };
        let path = format!("/v1/{what}?{}", query(&asked));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made = match Self::open(dir).await? {
                Self::Live(owner, _) => ask(&owner, Method::POST, &path, to_json(change)).await,
                Self::Stored(store, _) => {
                    store.into_inner().close().await?;
                    change_stored(dir, id, change).await
                }
            };
            match made {
                // It has ended just now, or somebody else was faster; nothing has changed.
                Err(AccessError::Over(_) | AccessError::Store(StoreError::InUse { .. }))
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                made => return made,
            }
        }
    }

    /// Ends jobs of the workflow that runs, or of one that was interrupted.
    ///
    /// # Errors
    /// When a job is unknown or the wish cannot be recorded; nothing is ended then.
    pub async fn cancel(
        self,
        id: Option<WorkflowId>,
        request: &CancelRequest,
    ) -> Result<CancelReport, AccessError> {
        match self {
            Self::Live(owner, _) => {
                let asked = Selection { id, ..Selection::default() };
                let path = format!("/v1/cancel?{}", query(&asked));
                ask(&owner, Method::POST, &path, to_json(request)).await
            }
            Self::Stored(store, dir) => {
                store.into_inner().close().await?;
                cancel_stored(&dir, id, request).await
            }
        }
    }

    /// Leaves jobs of a workflow out.
    ///
    /// # Errors
    /// When a job is unknown, or runs or has completed, or the wish cannot be recorded; nothing has changed
    /// then.
    pub async fn disable(
        dir: &StateDir,
        id: Option<WorkflowId>,
        request: NamedJobs,
    ) -> Result<DisableReport, AccessError> {
        Self::change(dir, "disable", id, &Disable(request)).await
    }

    /// Takes jobs of a workflow in again.
    ///
    /// # Errors
    /// When a job is unknown, or another one runs without it, or the wish cannot be recorded; nothing has
    /// changed then.
    pub async fn enable(
        dir: &StateDir,
        id: Option<WorkflowId>,
        request: NamedJobs,
    ) -> Result<EnableReport, AccessError> {
        Self::change(dir, "enable", id, &Enable(request)).await
    }
}

/// Nobody runs the workflow: the wish is written to its log, where a restart finds it.
async fn cancel_stored(
    dir: &StateDir,
    id: Option<WorkflowId>,
    request: &CancelRequest,
) -> Result<CancelReport, AccessError> {
    let mut store = Store::own(dir).await?;
    let StoredView { mut engine, next_sequence, .. } =
        StoredView::load(&mut store, id, &dir.path().to_string_lossy()).await?;
    let jobs = match &request.jobs {
        None => None,
        Some(names) => Some(
            find_jobs(&engine, names).map_err(|error| AccessError::Refused(error.to_string()))?,
        ),
    };
    let ended_before = engine.counts().ended();
    let events = engine
        .cancel_without_steps(now(), jobs)
        .map_err(|refused| AccessError::Refused(refused.to_string()))?;
    if !events.is_empty() {
        store.append(engine.id(), next_sequence, &events).await?;
    }
    let canceled = engine.counts().ended() - ended_before;
    store.close().await?;
    Ok(CancelReport { canceled, signaled: 0 })
}

/// Nobody runs the workflow: the change is written to its log.
async fn change_stored<C: Change>(
    dir: &StateDir,
    id: Option<WorkflowId>,
    change: &C,
) -> Result<C::Report, AccessError> {
    let mut store = Store::own(dir).await?;
    let StoredView { mut engine, next_sequence, .. } =
        StoredView::load(&mut store, id, &dir.path().to_string_lossy()).await?;
    let made = change.make(&mut engine, Moment { now: now(), is_driven: false });
    if let Ok((_, events)) = &made
        && !events.is_empty()
    {
        store.append(engine.id(), next_sequence, events).await?;
    }
    store.close().await?;
    made.map(|(report, _)| report).map_err(|error| AccessError::Refused(error.to_string()))
}

//! What the scheduler's accounting says of steps, on its way into the workflows that they are of.
//!
//! A workflow need not run any more when its figures come. Nothing waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use torc_core::engine::{Engine, Event};
use torc_core::ids::{StepId, WorkflowId};
use torc_core::time::Timestamp;
use torc_core::traits::StepAccount;

use super::runs::Runs;
use crate::accountant::{Accountant, Accounts, EndedStep};
use crate::clock::now;
use crate::handle::{Input, RequestError};
use crate::stored::StoredView;

/// What ended longer ago has been asked about, and is let go.
const RECENT: Duration = Duration::from_secs(24 * 3600);

impl Runs {
    /// From now on, the accounting is asked about steps after their end.
    pub(crate) fn keep_accounts(self: &Arc<Self>, accounts: Accounts) {
        let runs = Arc::downgrade(self);
        let accountant = Accountant::spawn(accounts, move |figures| {
            let runs = runs.clone();
            async move {
                if let Some(runs) = runs.upgrade() {
                    runs.account(figures).await;
                }
            }
        });
        let _ = self.accountant.set(accountant);
    }

    /// Has the accounting asked about the steps of a workflow whose figures an earlier server did not
    /// live to see.
    pub(super) fn ask_again(&self, engine: &Engine) {
        let Some(accountant) = self.accountant.get() else { return };
        let recent = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX);
        let since = Timestamp(now().0.saturating_sub(recent));
        for (allocation, step, at) in engine.unaccounted(since) {
            accountant.ended(EndedStep { allocation: allocation.clone(), step, at });
        }
    }

    /// Adds what is known of steps to their results, whether their workflow still runs or not.
    async fn account(&self, figures: Vec<(StepId, StepAccount)>) {
        let mut by_workflow: BTreeMap<WorkflowId, Vec<(StepId, StepAccount)>> = BTreeMap::new();
        for (step, account) in figures {
            by_workflow.entry(step.workflow).or_default().push((step, account));
        }
        for (id, figures) in by_workflow {
            let _only_one = self.beginning.lock().await;
            match self.handle(id) {
                Some(handle) => handle.tell(Input::Accounted(figures)),
                None => {
                    if let Err(error) = self.account_afterwards(id, figures).await {
                        tracing::warn!(workflow = %id, %error, "figures are lost");
                    }
                }
            }
        }
    }

    async fn account_afterwards(
        &self,
        id: WorkflowId,
        figures: Vec<(StepId, StepAccount)>,
    ) -> Result<(), RequestError> {
        let StoredView { mut engine, next_sequence, .. } = self.load(Some(id)).await?;
        let at = now();
        let events = figures.into_iter().map(|(step, told)| Event::accounted(at, step, told));
        let events: Vec<Event> = events.filter(|event| engine.apply(event).is_ok()).collect();
        self.append(id, next_sequence, events).await
    }
}

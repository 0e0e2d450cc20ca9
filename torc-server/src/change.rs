//! Changes of a workflow that somebody wishes for while it is there: its user data.
//!
//! Owns what such a change does to an engine, the same whether the workflow is driven here or only stored. Does not
//! know who wishes for it, or when it becomes durable. Invariant: a change that is refused has changed nothing.

use torc_core::engine::{Engine, Event};
use torc_core::time::Timestamp;
use torc_core::wire::{UserDataReport, UserDataRequest};

use crate::handle::RequestError;

/// A change that somebody wishes for.
pub(crate) trait Change: Send + 'static {
    /// What is said about it.
    type Report: Send + 'static;

    /// Makes it. The events are applied; what is said about it holds once they are durable.
    fn make(
        &self,
        engine: &mut Engine,
        now: Timestamp,
    ) -> Result<(Self::Report, Vec<Event>), RequestError>;
}

impl Change for UserDataRequest {
    type Report = UserDataReport;

    fn make(
        &self,
        engine: &mut Engine,
        now: Timestamp,
    ) -> Result<(UserDataReport, Vec<Event>), RequestError> {
        let Self { name, value, by } = self;
        let refused = |error: torc_core::engine::NotSet| RequestError::Refused(error.to_string());
        let set = engine.set_user_data(name, value.clone(), *by, now).map_err(refused)?;
        let mut reports = engine.user_data_reports();
        let item = engine.find_user_data(name).map_err(refused)?;
        Ok((reports.swap_remove(item as usize), vec![set]))
    }
}

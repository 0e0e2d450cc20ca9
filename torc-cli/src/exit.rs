//! Exit codes, and which error means which.

use std::fmt::Display;
use std::process::ExitCode;

use torc_core::wire::ErrorReport;
use torc_server::access::AccessError;
use torc_server::serve::ServeError;
use torc_server::server_process::StartError;
use torc_server::session::RunError;
use torc_server::store::StoreError;

use crate::args::Format;
use crate::out::errln;

/// How torc ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All jobs completed, or the question was answered.
    Success = 0,
    /// Some jobs failed, were canceled or terminated, or could not be started; or a plugin failed its check or its call.
    JobsFailed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The spec is invalid.
    SpecInvalid = 3,
    /// It can never run here.
    NeverRuns = 4,
    /// Something outside torc is not as it must be.
    Environment = 5,
    /// An error in torc.
    Internal = 70,
    /// Interrupted by a person.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub(crate) fn internal(error: &impl Display) -> Self {
        Self::new(Exit::Internal, format!("internal error: {error}; please report it"))
    }

    /// What was asked for was said already; only the code is left to give.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Says it, and returns the code.
    pub(crate) fn report(&self, format: Format) -> Exit {
        if !self.message.is_empty() {
            errln!("{} {}", crate::render::error_word(), self.message);
            if format == Format::Json {
                crate::render::json(&ErrorReport { error: self.message.clone() });
            }
        }
        self.exit
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::UnknownWorkflow { .. } => Exit::Usage,
            _ => Exit::Environment,
        };
        Self::new(exit, error)
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Store(error) => error.into(),
            AccessError::Refused(_) | AccessError::Over(_) => Self::new(Exit::Usage, error),
            AccessError::NeverRuns(_) => Self::new(Exit::NeverRuns, error),
            _ => Self::new(Exit::Environment, error),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Access(error) => error.into(),
            _ => Self::new(Exit::Environment, error),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Store(error) => error.into(),
            _ => Self::new(Exit::Environment, error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            RunError::NothingLeft(_) | RunError::StandIn(_) | RunError::Refused(_) => {
                Self::new(Exit::Usage, error)
            }
            RunError::Internal(_) => Self::internal(&error),
            RunError::MissingFiles(_) | RunError::NeverRuns(_) => {
                Self::new(Exit::NeverRuns, error.full_text())
            }
            _ => Self::new(Exit::Environment, error),
        }
    }
}

//! What can be wrong with a plugin, each in words that name it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::Wrong;

/// A plugin cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is none of this name.
    #[error("there is no plugin `{name}`; looked for {} in {}", files(.name), folders(.looked_in))]
    NotFound {
        /// Its name.
        name: String,
        /// Where.
        looked_in: Vec<PathBuf>,
    },
    /// No plugin can have this name.
    #[error(
        "`{0}` cannot be the name of a plugin: it has letters, digits, `-` and `_` only, and never a path"
    )]
    BadName(String),
    /// It is not trusted.
    #[error("the plugin {path} is not loaded: {distrust}")]
    Distrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        distrust: Distrust,
    },
    /// It is not the file that it should be.
    #[error("the plugin {path} is not loaded: its SHA-256 is {found}, and {wanted} is wanted")]
    OtherContent {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What the configuration says.
        wanted: String,
    },
    /// The system does not load it.
    #[error("the plugin {path} cannot be loaded: {reason}")]
    NotLoaded {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It says of itself what cannot be.
    #[error("{path} is no plugin for this torc: {reason}")]
    BadDescriptor {
        /// The file.
        path: PathBuf,
        /// What.
        reason: String,
    },
    /// It does not have what is wanted of it.
    #[error("the plugin `{plugin}` has no {wanted}; it has {}", .has.join(", "))]
    NoInterface {
        /// The plugin.
        plugin: Arc<str>,
        /// The interface.
        wanted: &'static str,
        /// Those that it has.
        has: Vec<String>,
    },
    /// The schema that it has for its settings is none.
    #[error("the plugin `{plugin}` is not opened: the schema of its settings is none: {reason}")]
    BadSchema {
        /// The plugin.
        plugin: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not take these settings.
    #[error("the plugin `{plugin}` does not take these settings: {}", list(.wrong))]
    WrongSettings {
        /// The plugin.
        plugin: Arc<str>,
        /// All that is wrong with them.
        wrong: Vec<Wrong>,
    },
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

fn files(name: &str) -> String {
    format!("libtorc_{name}.so and torc-plugin-{name}")
}

fn list(wrong: &[Wrong]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn folders(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|path| path.display().to_string()).collect();
    if folders.is_empty() { "no folder".to_owned() } else { folders.join(", ") }
}

/// Why a file is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It cannot be looked at.
    #[error("{path} cannot be looked at: {reason}")]
    Unseen {
        /// What.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It is a folder, a device, or the like.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// It runs as somebody else.
    #[error("{0} is set-user-ID or set-group-ID; take that off with `chmod ug-s`")]
    SetId(PathBuf),
    /// Somebody else owns it.
    #[error("{path} belongs to user {owner}, and has to belong to root or to user {user}")]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs torc.
        user: u32,
    },
    /// Others may write to it.
    #[error("{path} can be written to by {who}; take that right away with `chmod {fix} {path}`")]
    Writable {
        /// What.
        path: PathBuf,
        /// Whom.
        who: String,
        /// What chmod is to be told.
        fix: &'static str,
    },
}

/// A call of a plugin did not come to what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}`: {method}: {fault}")]
pub struct CallError {
    /// The plugin.
    pub plugin: Arc<str>,
    /// What was called.
    pub method: String,
    /// What came of it.
    pub fault: Fault,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be done, in the plugin's words.
    Invalid(String),
    /// It may be done later, in the plugin's words.
    Transient(String),
    /// The plugin does not know the method.
    Unsupported,
    /// The plugin is broken, and was caught.
    Panicked(String),
    /// No answer came in this time.
    Late(Duration),
    /// The plugin cannot go on, in these words. It is not called any more.
    Fatal(String),
    /// Its process is gone, in these words. The next call starts another.
    Gone(String),
    /// What it answered cannot be understood.
    Garbled(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(words) | Self::Transient(words) => f.write_str(words),
            Self::Unsupported => f.write_str("it does not know this method"),
            Self::Panicked(words) => write!(f, "it panicked: {words}"),
            Self::Late(after) => write!(f, "no answer within {} ms", after.as_millis()),
            Self::Fatal(words) => write!(f, "{words}; it is not called any more"),
            Self::Gone(words) => write!(f, "its process is gone: {words}"),
            Self::Garbled(words) => write!(f, "its answer cannot be understood: {words}"),
        }
    }
}

impl Fault {
    /// Whether the same call may come to something another time.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::Late(_) | Self::Gone(_))
    }
}

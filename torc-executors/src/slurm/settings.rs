//! What a spec says about a Slurm scheduler, read from its stored form.
//!
//! Pure. Knows the fields of `slurm_schedulers` and `slurm_defaults`, and splits `extra` as a shell
//! would; what sbatch makes of them is not known here.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use torc_core::spec::SHARING;
use torc_core::traits::AllocationRequest;

use super::duration::{self, TimeLimit};
use super::options::{self, Given};

/// A script cannot be made from what the spec says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Slurm scheduler of `{name}`: {problem}")]
pub struct ScriptError {
    /// What people see in the queue, or the scheduler's name.
    pub name: String,
    /// What is wrong.
    pub problem: SettingsProblem,
}

/// What is wrong with the settings of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsProblem {
    /// They have another form than the spec's.
    #[error("its settings cannot be read: {0}")]
    Unreadable(String),
    /// No shell could split this.
    #[error("`extra` has a quote that never closes: {0}; close it, or put a backslash before it")]
    UnbalancedQuote(String),
    /// A word that belongs to no option.
    #[error(
        "`{0}` in `extra` belongs to no option, and sbatch would ignore all that follows; options begin with `-`, and values with blanks need quotes"
    )]
    StrayWord(String),
    /// An option that torc's own work rules out.
    #[error("`{option}` cannot be used with torc: {why}")]
    Excluded {
        /// The option, as it is written.
        option: String,
        /// Why.
        why: &'static str,
    },
    /// The same default in two spellings.
    #[error("`slurm_defaults` sets `{0}` twice, in two spellings; keep one")]
    Twice(String),
    /// No long option of sbatch looks like this.
    #[error(
        "`{0}` in `slurm_defaults` is no name of an option; write the long name, such as `constraint`"
    )]
    NoOption(String),
    /// A default that is neither text nor a number nor a boolean.
    #[error("`{0}` in `slurm_defaults` must be text, a number or a boolean")]
    NoValue(String),
    /// A value that does not fit on a line.
    #[error("the value of `{0}` has a line break or another control character; remove it")]
    ControlCharacter(String),
    /// sbatch keeps an option of a script in a buffer of a fixed size.
    #[error("the value of `{0}` is longer than {LONGEST_OPTION} bytes; shorten it")]
    TooLong(String),
    /// Dependencies that must all be met, and such of which one is enough, cannot be told sbatch at once.
    #[error(
        "its own dependency `{0}` uses `?`, which cannot be joined with `serialize_allocations`; remove one of the two"
    )]
    EitherDependency(String),
    /// The program or an argument has a character that no argument can have.
    #[error("the command has a zero byte")]
    ZeroByte,
    /// There is no command.
    #[error("there is no command to run")]
    NoCommand,
    /// The key cannot be found again.
    #[error("`{0}` cannot mark an allocation: a key has letters, digits and `-_.:/@+=` only")]
    BadKey(String),
}

/// Above this, sbatch might write over the end of its buffer (BUFSIZ, 8192 bytes).
pub(super) const LONGEST_OPTION: usize = 4096;

/// Text, which may be written as a number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Whole(i64),
    Number(f64),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A scheduler's fields, as the spec has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    account: Option<Word>,
    nodes: Option<u32>,
    walltime: Option<String>,
    partition: Option<Word>,
    qos: Option<Word>,
    mem: Option<Word>,
    gres: Option<Word>,
    tmp: Option<Word>,
    ntasks_per_node: Option<u32>,
    extra: Option<String>,
    serialize_allocations: Option<bool>,
    labels: Option<Vec<String>>,
    exclusive: Option<bool>,
    defaults: Map<String, Value>,
}

/// The settings of a Slurm scheduler, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlurmSettings {
    /// The options that are the scheduler's own fields, with their values, in the order of the spec's
    /// page. `nodes` and `time` are not among them: a request says those.
    pub(super) own: Vec<(&'static str, String)>,
    /// `slurm_defaults`, as options of sbatch; `None`: a flag.
    pub(super) defaults: Vec<(String, Option<String>)>,
    /// The names of all `slurm_defaults`, switched off or not.
    pub(super) named_defaults: Vec<String>,
    /// `extra`, as words.
    pub(super) extra: Vec<String>,
    /// `exclusive`, if it is said.
    pub(super) exclusive: Option<bool>,
    /// Nodes of an allocation.
    pub nodes: u32,
    /// How long an allocation lasts.
    pub walltime: Duration,
    /// Successive allocations run one after another.
    pub serialize_allocations: bool,
    /// Labels of the workers of its allocations.
    pub labels: Vec<String>,
}

const DEFAULT_WALLTIME: Duration = Duration::from_secs(3600);

impl SlurmSettings {
    /// Reads the stored form ([`torc_core::workflow::SchedulerSettings::settings`]) of the scheduler
    /// with this name.
    ///
    /// # Errors
    /// When sbatch could not be given what it says. The name is in the message.
    pub fn read(name: &str, settings: &Value) -> Result<Self, ScriptError> {
        Self::try_read(settings).map_err(|problem| ScriptError { name: name.to_owned(), problem })
    }

    /// The settings of a request.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(request: &AllocationRequest) -> Result<Self, ScriptError> {
        Self::read(&request.name, &request.settings)
    }

    fn try_read(settings: &Value) -> Result<Self, SettingsProblem> {
        let unreadable = |error: serde_json::Error| SettingsProblem::Unreadable(error.to_string());
        let fields = match settings {
            Value::Null => Fields::default(),
            settings => Fields::deserialize(settings).map_err(unreadable)?,
        };
        let (defaults, named_defaults) = read_defaults(&fields.defaults)?;
        let extra = fields.extra.as_deref().unwrap_or_default();
        let extra = shlex::split(extra)
            .ok_or_else(|| SettingsProblem::UnbalancedQuote(extra.to_owned()))?;
        options::check(&extra, &defaults)?;
        Ok(Self {
            own: own_options(&fields),
            defaults,
            named_defaults,
            extra,
            exclusive: fields.exclusive,
            nodes: fields.nodes.unwrap_or(1),
            walltime: walltime(fields.walltime.as_deref())?,
            serialize_allocations: fields.serialize_allocations.unwrap_or(false),
            labels: fields.labels.unwrap_or_default(),
        })
    }

    /// What `extra`, else `slurm_defaults`, say about an option; the last word of `extra` counts.
    pub(super) fn given(&self, option: &str) -> Option<Given> {
        let default = || {
            let found = self.defaults.iter().find(|(name, _)| options::is(name, option));
            found.map(|(_, value)| Given { value: value.clone() })
        };
        options::last_in(&self.extra, option).or_else(default)
    }

    /// Whether `extra` or `slurm_defaults` name an option, be it to switch it off.
    fn names(&self, option: &str) -> bool {
        self.given(option).is_some()
            || self.named_defaults.iter().any(|name| options::is(name, option))
    }

    /// Whether an allocation has its nodes to itself: as the scheduler says; else yes, unless the user
    /// chose another way of sharing nodes.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive.unwrap_or_else(|| !SHARING.iter().any(|option| self.names(option)))
    }

    /// Whether memory is asked for in any way.
    pub(super) fn says_memory(&self) -> bool {
        self.own.iter().any(|(name, _)| *name == "mem")
            || ["mem", "mem-per-cpu", "mem-per-gpu"]
                .iter()
                .any(|option| self.given(option).is_some())
    }

    /// The partitions that an allocation may be in, as sbatch will be told; `None`: the default one.
    pub fn partitions(&self) -> Option<Vec<String>> {
        let own = || self.own.iter().find(|(name, _)| *name == "partition");
        let list = options::last_in(&self.extra, "partition")
            .and_then(|given| given.value)
            .or_else(|| own().map(|(_, value)| value.clone()))?;
        Some(list.split(',').map(str::trim).map(str::to_owned).collect())
    }
}

fn own_options(fields: &Fields) -> Vec<(&'static str, String)> {
    let words = [
        ("account", &fields.account),
        ("partition", &fields.partition),
        ("qos", &fields.qos),
        ("mem", &fields.mem),
        ("gres", &fields.gres),
        ("tmp", &fields.tmp),
    ];
    let words = words.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?.text())));
    let tasks = fields.ntasks_per_node.map(|tasks| ("ntasks-per-node", tasks.to_string()));
    words.chain(tasks).collect()
}

fn walltime(text: Option<&str>) -> Result<Duration, SettingsProblem> {
    let Some(text) = text else { return Ok(DEFAULT_WALLTIME) };
    match duration::parse_limit(text) {
        Ok(TimeLimit::For(walltime)) if !walltime.is_zero() => Ok(walltime),
        _ => Err(SettingsProblem::Unreadable(format!(
            "`{text}` is no walltime; write `HH:MM:SS` or `D-HH:MM:SS`"
        ))),
    }
}

type Defaults = (Vec<(String, Option<String>)>, Vec<String>);

fn read_defaults(map: &Map<String, Value>) -> Result<Defaults, SettingsProblem> {
    let (mut found, mut named): Defaults = (Vec::new(), Vec::new());
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let option = key.trim_start_matches("--").replace('_', "-");
        let is_name = option.starts_with(|c: char| c.is_ascii_alphabetic())
            && option.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err(SettingsProblem::NoOption(key.clone()));
        }
        if named.contains(&option) {
            return Err(SettingsProblem::Twice(option));
        }
        match value {
            Value::Bool(true) => found.push((option.clone(), None)),
            Value::Bool(false) | Value::Null => {}
            Value::String(text) => found.push((option.clone(), Some(text.clone()))),
            Value::Number(number) => found.push((option.clone(), Some(number.to_string()))),
            Value::Array(_) | Value::Object(_) => {
                return Err(SettingsProblem::NoValue(key.clone()));
            }
        }
        named.push(option);
    }
    Ok((found, named))
}

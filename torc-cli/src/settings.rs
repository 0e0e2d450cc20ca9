//! Settings: what a site, a user and the environment say, in this order; what is said last counts.
//!
//! A site's file can also cap how much its scheduler is asked: whoever comes after it can ask less, not
//! more. Every value remembers where it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use torc_core::governor::Limits;
use torc_core::launch_template::LaunchTemplate;

use crate::exit::{Exit, Failure};

/// The site's file.
const SITE: &str = "/etc/torc/config.toml";
/// Names the user's file.
const USER_VARIABLE: &str = "TORC_CONFIG";
/// Unless told otherwise, the accounting is asked once a minute: it is not made for more.
const ACCOUNTING_POLL: Duration = Duration::from_secs(60);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// torc itself.
    BuiltIn,
    /// A file.
    File(PathBuf),
    /// An option of this command.
    Option(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// The site's cap, which a later value went beyond.
    Cap(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Option(name) => write!(f, "the option {name}"),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Cap(path) => write!(f, "capped by {}", path.display()),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    fn built_in(value: T) -> Self {
        Self { value, origin: Origin::BuiltIn }
    }

    fn set(&mut self, value: Option<T>, origin: &Origin) {
        if let Some(value) = value {
            *self = Self { value, origin: origin.clone() };
        }
    }
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The server's TCP port; 0: any that is free.
    pub(crate) port: Setting<u16>,
    /// How long a server stays without work; zero: for ever.
    pub(crate) idle_exit: Setting<Duration>,
    /// Allocations that wait in Slurm's queue at once, at most.
    pub(crate) max_pending: Setting<usize>,
    /// The pause between two requests for allocations, at least.
    pub(crate) submit_pause: Setting<Duration>,
    /// The pause between two questions about allocations while something changes, at least.
    pub(crate) shortest_poll: Setting<Duration>,
    /// The same while nothing does.
    pub(crate) longest_poll: Setting<Duration>,
    /// The pause between two questions to the accounting, at least.
    pub(crate) accounting_poll: Setting<Duration>,
    /// The folder of Slurm's programs; `None`: PATH.
    pub(crate) slurm_programs: Setting<Option<PathBuf>>,
    /// Folders of plugins, after those of the command line.
    pub(crate) plugin_path: Setting<Vec<PathBuf>>,
    /// Groups whose members may write to plugins, by name or number.
    pub(crate) trusted_groups: Setting<Vec<String>>,
    /// The SHA-256 that a plugin's file must have, by its name.
    pub(crate) plugin_pins: Setting<BTreeMap<String, String>>,
    /// Templates of launchers, by the names that specs call them by.
    pub(crate) launchers: BTreeMap<String, Setting<LaunchTemplate>>,
}

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    server: ServerPart,
    slurm: SlurmPart,
    plugins: PluginPart,
    launchers: BTreeMap<String, LaunchTemplate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PluginPart {
    path: Option<Vec<PathBuf>>,
    trusted_groups: Option<Vec<String>>,
    sha256: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServerPart {
    port: Option<u16>,
    idle_exit: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SlurmPart {
    max_pending: Option<usize>,
    submit_pause: Option<Time>,
    shortest_poll: Option<Time>,
    longest_poll: Option<Time>,
    accounting_poll: Option<Time>,
    programs: Option<PathBuf>,
}

/// A time as people write it: `200ms`, `5s`, `10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Time(Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<SignedDuration>().map(Duration::try_from) {
            Ok(Ok(duration)) => Ok(Self(duration)),
            _ => Err(format!("`{text}` is no time; write one such as 200ms, 5s or 10m")),
        }
    }
}

impl Settings {
    /// What holds here.
    ///
    /// # Errors
    /// When a file or variable cannot be read or understood.
    pub(crate) fn load() -> Result<Self, Failure> {
        let site = PathBuf::from(SITE);
        let mut settings = Self::built_in();
        let site_file = read(&site)?;
        if let Some(text) = &site_file {
            settings.take(text, &Origin::File(site.clone()))?;
        }
        let caps = site_file.map(|_| settings.clone());
        if let Some(path) = user_file()
            && let Some(text) = read(&path)?
        {
            settings.take(&text, &Origin::File(path))?;
        }
        settings.take_variables(|name| std::env::var(name).ok())?;
        if let Some(caps) = caps {
            settings.cap(&caps, &site);
        }
        Ok(settings)
    }

    fn built_in() -> Self {
        let limits = Limits::default();
        Self {
            port: Setting::built_in(0),
            idle_exit: Setting::built_in(Duration::from_secs(600)),
            max_pending: Setting::built_in(limits.max_pending),
            submit_pause: Setting::built_in(limits.submit_pause),
            shortest_poll: Setting::built_in(limits.shortest_interval),
            longest_poll: Setting::built_in(limits.longest_interval),
            accounting_poll: Setting::built_in(ACCOUNTING_POLL),
            slurm_programs: Setting::built_in(None),
            plugin_path: Setting::built_in(Vec::new()),
            trusted_groups: Setting::built_in(Vec::new()),
            plugin_pins: Setting::built_in(BTreeMap::new()),
            launchers: BTreeMap::new(),
        }
    }

    /// How much a scheduler may be asked.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_pending: self.max_pending.value,
            submit_pause: self.submit_pause.value,
            shortest_interval: self.shortest_poll.value,
            longest_interval: self.longest_poll.value.max(self.shortest_poll.value),
        }
    }

    fn take(&mut self, text: &str, origin: &Origin) -> Result<(), Failure> {
        let File { server, slurm, plugins, launchers } = toml::from_str(text)
            .map_err(|error| Failure::new(Exit::Environment, format!("{origin}: {error}")))?;
        let time = |time: Option<Time>| time.map(|time| time.0);
        self.port.set(server.port, origin);
        self.idle_exit.set(time(server.idle_exit), origin);
        self.max_pending.set(slurm.max_pending, origin);
        self.submit_pause.set(time(slurm.submit_pause), origin);
        self.shortest_poll.set(time(slurm.shortest_poll), origin);
        self.longest_poll.set(time(slurm.longest_poll), origin);
        self.accounting_poll.set(time(slurm.accounting_poll), origin);
        self.slurm_programs.set(slurm.programs.map(Some), origin);
        self.plugin_path.set(plugins.path, origin);
        self.trusted_groups.set(plugins.trusted_groups, origin);
        self.plugin_pins.set(plugins.sha256, origin);
        for (name, value) in launchers {
            self.launchers.insert(name, Setting { value, origin: origin.clone() });
        }
        Ok(())
    }

    fn take_variables(&mut self, get: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
        let wrong = |name: &str, text: &str, expected: &str| {
            let message = format!("the variable {name} is `{text}`; expected {expected}");
            Failure::new(Exit::Environment, message)
        };
        let number = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(text) => match text.parse::<usize>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(wrong(name, &text, "a number")),
            },
        };
        let time = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(text) => match Time::try_from(text.clone()) {
                Ok(time) => Ok(Some(time.0)),
                Err(_) => Err(wrong(name, &text, "a time such as 5s")),
            },
        };
        let port = number("TORC_SERVER_PORT")?.map(u16::try_from).transpose().map_err(|_| {
            wrong("TORC_SERVER_PORT", &get("TORC_SERVER_PORT").unwrap_or_default(), "0 to 65535")
        })?;
        let from = Origin::Variable;
        self.port.set(port, &from("TORC_SERVER_PORT"));
        self.idle_exit.set(time("TORC_SERVER_IDLE_EXIT")?, &from("TORC_SERVER_IDLE_EXIT"));
        self.max_pending.set(number("TORC_SLURM_MAX_PENDING")?, &from("TORC_SLURM_MAX_PENDING"));
        self.submit_pause.set(time("TORC_SLURM_SUBMIT_PAUSE")?, &from("TORC_SLURM_SUBMIT_PAUSE"));
        self.shortest_poll
            .set(time("TORC_SLURM_SHORTEST_POLL")?, &from("TORC_SLURM_SHORTEST_POLL"));
        self.longest_poll.set(time("TORC_SLURM_LONGEST_POLL")?, &from("TORC_SLURM_LONGEST_POLL"));
        self.accounting_poll
            .set(time("TORC_SLURM_ACCOUNTING_POLL")?, &from("TORC_SLURM_ACCOUNTING_POLL"));
        let programs = get("TORC_SLURM_PROGRAMS").map(|text| Some(PathBuf::from(text)));
        self.slurm_programs.set(programs, &from("TORC_SLURM_PROGRAMS"));
        Ok(())
    }

    /// Nobody asks a site's scheduler more than the site's file says.
    fn cap(&mut self, site: &Self, path: &Path) {
        let is_said = |origin: &Origin| *origin != Origin::BuiltIn;
        let origin = Origin::Cap(path.to_path_buf());
        if is_said(&site.max_pending.origin) && self.max_pending.value > site.max_pending.value {
            self.max_pending.set(Some(site.max_pending.value), &origin);
        }
        for (own, cap) in [
            (&mut self.submit_pause, &site.submit_pause),
            (&mut self.shortest_poll, &site.shortest_poll),
            (&mut self.longest_poll, &site.longest_poll),
            (&mut self.accounting_poll, &site.accounting_poll),
        ] {
            if is_said(&cap.origin) && own.value < cap.value {
                own.set(Some(cap.value), &origin);
            }
        }
    }

    /// Each setting by its name, with its value and where that comes from.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String, String)> {
        let time = |setting: &Setting<Duration>| {
            let value = SignedDuration::try_from(setting.value)
                .map_or_else(|_| "?".to_owned(), |time| format!("{time:#}"));
            (value, setting.origin.to_string())
        };
        let row = |name, (value, origin)| (name, value, origin);
        let programs = match &self.slurm_programs.value {
            Some(folder) => folder.display().to_string(),
            None => "PATH".to_owned(),
        };
        vec![
            ("server.port", self.port.value.to_string(), self.port.origin.to_string()),
            row("server.idle_exit", time(&self.idle_exit)),
            (
                "slurm.max_pending",
                self.max_pending.value.to_string(),
                self.max_pending.origin.to_string(),
            ),
            row("slurm.submit_pause", time(&self.submit_pause)),
            row("slurm.shortest_poll", time(&self.shortest_poll)),
            row("slurm.longest_poll", time(&self.longest_poll)),
            row("slurm.accounting_poll", time(&self.accounting_poll)),
            ("slurm.programs", programs, self.slurm_programs.origin.to_string()),
            row("plugins.path", list(&self.plugin_path, |folder| folder.display().to_string())),
            row("plugins.trusted_groups", list(&self.trusted_groups, String::clone)),
            (
                "plugins.sha256",
                listed(self.plugin_pins.value.iter().map(|(name, pin)| format!("{name}={pin}"))),
                self.plugin_pins.origin.to_string(),
            ),
            ("launchers", listed(self.launchers.keys().cloned()), self.origins_of_launchers()),
        ]
    }

    fn origins_of_launchers(&self) -> String {
        let origins: BTreeSet<String> =
            self.launchers.values().map(|setting| setting.origin.to_string()).collect();
        match origins.is_empty() {
            true => Origin::BuiltIn.to_string(),
            false => listed(origins.into_iter()),
        }
    }
}

/// A list as a row of settings shows it.
fn list<T>(setting: &Setting<Vec<T>>, show: impl Fn(&T) -> String) -> (String, String) {
    (listed(setting.value.iter().map(show)), setting.origin.to_string())
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn user_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(USER_VARIABLE) {
        return Some(path.into());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(folder.join("torc/config.toml"))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Failure::new(Exit::Environment, format!("cannot read {}: {error}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Origin {
        Origin::File(name.into())
    }

    #[test]
    fn what_is_said_last_counts_and_remembers_who_said_it() {
        let mut settings = Settings::built_in();
        settings.take("[slurm]\nmax_pending = 5\nlongest_poll = '2m'\n", &file("site")).unwrap();
        settings
            .take("[server]\nport = 7777\n[slurm]\nlongest_poll = '3m'", &file("user"))
            .unwrap();
        let variable = |name: &str| (name == "TORC_SERVER_PORT").then(|| "8888".to_owned());
        settings.take_variables(variable).unwrap();
        assert_eq!(settings.port.value, 8888);
        assert_eq!(settings.port.origin, Origin::Variable("TORC_SERVER_PORT"));
        assert_eq!(settings.longest_poll.value, Duration::from_secs(180));
        assert_eq!(settings.longest_poll.origin, file("user"));
        assert_eq!(settings.max_pending.origin, file("site"));
        assert_eq!(settings.submit_pause.origin, Origin::BuiltIn);
    }

    #[test]
    fn a_site_caps_how_much_is_asked() {
        let mut settings = Settings::built_in();
        settings.take("[slurm]\nmax_pending = 5\nshortest_poll = '30s'", &file("site")).unwrap();
        settings.take("[slurm]\naccounting_poll = '5m'", &file("site")).unwrap();
        let site = settings.clone();
        let greedy = "[slurm]\nmax_pending = 500\nshortest_poll = '1s'\nsubmit_pause = '0s'\naccounting_poll = '1s'";
        settings.take(greedy, &file("user")).unwrap();
        settings.cap(&site, Path::new("site"));
        assert_eq!(settings.max_pending.value, 5);
        assert_eq!(settings.max_pending.origin, Origin::Cap("site".into()));
        assert_eq!(settings.shortest_poll.value, Duration::from_secs(30));
        assert_eq!(settings.accounting_poll.value, Duration::from_secs(300));
        assert_eq!(settings.submit_pause.value, Duration::ZERO, "the site says nothing about it");
        settings.take("[slurm]\nmax_pending = 2", &file("user")).unwrap();
        settings.cap(&site, Path::new("site"));
        assert_eq!(settings.max_pending.value, 2, "less is always fine");
    }

    #[test]
    fn plugins_are_looked_for_and_trusted_as_the_files_say() {
        let mut settings = Settings::built_in();
        let text = "[plugins]\npath = ['/opt/torc']\ntrusted_groups = ['hpc', '99']\nsha256 = {flux = 'ab12'}";
        settings.take(text, &file("site")).unwrap();
        assert_eq!(settings.plugin_path.value, [PathBuf::from("/opt/torc")]);
        let rows = settings.rows();
        let shown = |name: &str| {
            let row = rows.iter().find(|(setting, ..)| *setting == name).expect("it is shown");
            (&*row.1, &*row.2)
        };
        assert_eq!(shown("plugins.path"), ("/opt/torc", "site"));
        assert_eq!(shown("plugins.trusted_groups"), ("hpc, 99", "site"));
        assert_eq!(shown("plugins.sha256"), ("flux=ab12", "site"));
        assert_eq!(Settings::built_in().rows().last().map(|row| &*row.1), Some("none"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let mut settings = Settings::built_in();
        for (text, part) in [
            ("[slurm]\nmax_pendin = 3", "max_pendin"),
            ("[slurm]\nshortest_poll = 'soon'", "`soon` is no time"),
            ("[server", "line 1"),
        ] {
            let failure = settings.take(text, &file("their.toml")).unwrap_err();
            assert!(failure.message.contains(part), "{}", failure.message);
            assert!(failure.message.contains("their.toml"), "{}", failure.message);
        }
        let failure = settings.take_variables(|_| Some("many".to_owned())).unwrap_err();
        assert!(failure.message.contains("TORC_SERVER_PORT is `many`"), "{}", failure.message);
    }
}

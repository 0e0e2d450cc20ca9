//! Where plugins lie, and how one is found by its name.
//!
//! Owns: the order of the folders, and the names of the files. Does not know: what is in them. Invariant: only a name
//! leads to a plugin, never a path that a spec gave; the current folder is not searched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::about::{About, is_name};
use crate::error::{Fault, PluginError};
use crate::instance::{Backend, Instance};
use crate::kind::Kind;
use crate::library::Loaded;
use crate::process::{self, ProcessBackend};
use crate::settings as judged;
use crate::trust::{Trust, digest, is_library};

/// Where plugins of the whole machine lie.
const OF_THE_MACHINE: &str = "/etc/torc/plugins.d";

/// Where plugins are looked for, and which are trusted.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    folders: Vec<PathBuf>,
    trust: Trust,
    pins: BTreeMap<String, String>,
}

/// What the folders follow from, besides the file system.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `--plugin-path`, in order.
    pub given: Vec<PathBuf>,
    /// `TORC_PLUGIN_PATH`.
    pub variable: Option<OsString>,
    /// The user's data folder: `XDG_DATA_HOME`, or `~/.local/share`.
    pub data: Option<PathBuf>,
    /// The program that is running.
    pub program: Option<PathBuf>,
}

impl Places {
    /// The folders, first to last. Relative ones are left out: what they mean depends on the current folder.
    pub fn folders(&self) -> Vec<PathBuf> {
        let variable = self.variable.iter().flat_map(std::env::split_paths);
        let data = self.data.iter().map(|data| data.join("torc/plugins"));
        let prefix = self.program.iter().filter_map(|program| program.parent()?.parent());
        let prefix = prefix.map(|prefix| prefix.join("lib/torc/plugins"));
        let given = self.given.iter().cloned().chain(variable).chain(data);
        let all = given.chain([PathBuf::from(OF_THE_MACHINE)]).chain(prefix);
        all.filter(|folder| folder.is_absolute()).collect()
    }
}

/// A plugin's file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name that led to it.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl Found {
    /// The plugin that a file is by its name, `libtorc_NAME.so` or `torc-plugin-NAME`.
    pub fn at(path: &Path) -> Option<Self> {
        let name = name_of(path.file_name()?.to_str()?)?;
        Some(Self { name: name.to_owned(), path: path.to_path_buf() })
    }

    /// Whether the file is a library, and not a program.
    pub fn is_library(&self) -> bool {
        self.path.file_name().is_some_and(is_library)
    }
}

impl Shelf {
    /// A shelf of these folders. `pins`: the SHA-256 that the file of a plugin must have, by its name.
    pub fn new(folders: Vec<PathBuf>, trust: Trust, pins: BTreeMap<String, String>) -> Self {
        Self { folders, trust, pins }
    }

    /// The folders, first to last.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Which files are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The SHA-256 that the file of a plugin must have, if it must have one.
    pub fn pin(&self, name: &str) -> Option<&str> {
        self.pins.get(name).map(String::as_str)
    }

    /// All that have the name of a plugin's file; of several of one name the first.
    pub fn all(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let mut names: Vec<OsString> =
                entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            for file in names {
                let Some(name) = file.to_str().and_then(name_of) else { continue };
                if found.iter().all(|known| known.name != name) {
                    found.push(Found { name: name.to_owned(), path: folder.join(&file) });
                }
            }
        }
        found
    }

    /// The file of a plugin.
    ///
    /// # Errors
    /// When no plugin can have this name, or there is none.
    pub fn find(&self, name: &str) -> Result<Found, PluginError> {
        if !is_name(name) {
            return Err(PluginError::BadName(name.to_owned()));
        }
        let files = [format!("libtorc_{name}.so"), format!("torc-plugin-{name}")];
        let paths =
            self.folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
        let found = paths.into_iter().find(|path| fs::symlink_metadata(path).is_ok());
        let path = found.ok_or_else(|| PluginError::NotFound {
            name: name.to_owned(),
            looked_in: self.folders.clone(),
        })?;
        Ok(Found { name: name.to_owned(), path })
    }

    /// Finds a plugin, and reads what it says of itself, if it is trusted.
    ///
    /// # Errors
    /// When it is not there, not trusted, not the one that was pinned, or no plugin for this torc.
    pub fn plugin(&self, name: &str) -> Result<Plugin, PluginError> {
        self.take(&self.find(name)?)
    }

    /// Reads what a plugin says of itself whose file was found, if it is trusted.
    ///
    /// # Errors
    /// As [`Self::plugin`].
    pub fn take(&self, found: &Found) -> Result<Plugin, PluginError> {
        let path = self
            .trust
            .examine(&found.path)
            .map_err(|distrust| PluginError::Distrusted { path: found.path.clone(), distrust })?;
        if let Some(wanted) = self.pins.get(&found.name) {
            let found = digest(&path).map_err(|error| PluginError::NotLoaded {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(PluginError::OtherContent { path, found, wanted: wanted.clone() });
            }
        }
        let plugin = Plugin::read(path)?;
        if plugin.about().name != found.name {
            return Err(PluginError::BadDescriptor {
                path: found.path.clone(),
                reason: format!(
                    "it calls itself `{}`, and its file says `{}`",
                    plugin.about().name,
                    found.name
                ),
            });
        }
        Ok(plugin)
    }
}

/// The plugin that a file of this name is.
fn name_of(file: &str) -> Option<&str> {
    let library = file.strip_prefix("libtorc_").and_then(|rest| rest.strip_suffix(".so"));
    library.or_else(|| file.strip_prefix("torc-plugin-")).filter(|name| is_name(name))
}

/// A plugin that can be opened.
#[derive(Clone, Debug)]
pub struct Plugin {
    path: PathBuf,
    form: Form,
}

/// What it is of.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    Library(Loaded),
    Program(About),
}

impl Plugin {
    /// Loads a library, or asks a program. Whether the file is trusted was asked before.
    fn read(path: PathBuf) -> Result<Self, PluginError> {
        let form = match path.file_name().is_some_and(is_library) {
            true => Form::Library(Loaded::load(&path)?),
            false => Form::Program(process::describe(&path)?),
        };
        Ok(Self { path, form })
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        match &self.form {
            Form::Library(loaded) => &loaded.about,
            Form::Program(about) => about,
        }
    }

    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// Its file, behind all links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses settings that it does not take.
    ///
    /// # Errors
    /// When there is something wrong with them, or with the schema that says so.
    pub fn check_settings(
        &self,
        settings: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), PluginError> {
        let about = self.about();
        let plugin = || about.name.as_str().into();
        match judged::judge(about.schema.as_ref(), settings) {
            Ok(wrong) if wrong.is_empty() => Ok(()),
            Ok(wrong) => Err(PluginError::WrongSettings { plugin: plugin(), wrong }),
            Err(reason) => Err(PluginError::BadSchema { plugin: plugin(), reason }),
        }
    }

    /// Opens an interface with these settings for one call of a method, and closes it.
    ///
    /// # Errors
    /// When the plugin has no such interface, does not open, or what it answers is no JSON or none in time.
    pub fn ask(
        &self,
        kind: Kind,
        settings: &serde_json::Map<String, serde_json::Value>,
        method: &str,
        request: Vec<u8>,
        within: Duration,
    ) -> Result<serde_json::Value, PluginError> {
        let instance = self.open(kind.id(), settings, None)?;
        let answer = instance.call_blocking(method, request, within)?;
        instance.close(Duration::ZERO);
        let garbled = |error: serde_json::Error| Fault::Garbled(error.to_string());
        let answer = serde_json::from_slice(&answer);
        Ok(answer.map_err(|error| instance.error(method, garbled(error)))?)
    }

    /// Makes an instance for an interface.
    pub(crate) fn open(
        &self,
        interface: &'static str,
        settings: &serde_json::Map<String, serde_json::Value>,
        events: Option<crate::calls::Events>,
    ) -> Result<Instance, PluginError> {
        let about = self.about();
        let backend: Option<Box<dyn Backend>> = match &self.form {
            Form::Library(loaded) => {
                loaded.backend(interface).map(|backend| Box::new(backend) as _)
            }
            Form::Program(about) => about.interfaces.iter().any(|id| id == interface).then(|| {
                let backend: Box<dyn Backend> =
                    Box::new(ProcessBackend::new(&self.path, interface));
                backend
            }),
        };
        let backend = backend.ok_or_else(|| PluginError::NoInterface {
            plugin: about.name.as_str().into(),
            wanted: interface,
            has: about.interfaces.clone(),
        })?;
        if interface == Kind::Scheduler.id() {
            // Its settings come with each request.
            let fault = about.schema.as_ref().and_then(judged::fault);
            if let Some(reason) = fault {
                return Err(PluginError::BadSchema { plugin: about.name.as_str().into(), reason });
            }
        } else {
            self.check_settings(settings)?;
        }
        let config = serde_json::Value::Object(settings.clone()).to_string().into_bytes();
        Ok(Instance::open(about.name.as_str().into(), backend, config, events)?)
    }
}

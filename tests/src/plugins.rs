//! Folders of plugins that torc trusts, wherever the checkout lies: everybody may write to /tmp.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use torc_plugins::Trust;

use crate::{Place, checkout, torc};

/// A new folder that nobody else can write to, below the build's or one's own, and the groups that have to be trusted
/// for that.
///
/// # Panics
/// When there is none.
pub fn trusted_folder() -> (TempDir, Vec<u32>) {
    let built = torc().parent().map(Path::to_path_buf);
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let bases = built.into_iter().chain(own).chain(["/var/lib", "/opt"].map(PathBuf::from));
    for base in bases {
        let Ok(folder) = tempfile::tempdir_in(&base) else { continue };
        let groups = folder.path().ancestors().map(|path| path.metadata().expect("is there").gid());
        let groups: Vec<u32> = groups.collect();
        let file = folder.path().join("file");
        fs::write(&file, "").expect("it is written");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("it is ours");
        if (Trust { groups: groups.clone() }).examine(&file).is_ok() {
            fs::remove_file(&file).expect("it is ours");
            return (folder, groups);
        }
    }
    panic!("there is no folder here that nobody else can write to: set HOME to one");
}

/// A folder of plugins, for the torc of a place.
pub struct PluginFolder(TempDir);

impl PluginFolder {
    /// An empty one, in which that torc looks, and which it trusts.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn of(place: &Place) -> Self {
        let folder = Self::beside(place);
        let path = folder.path().display().to_string();
        place.write("config.toml", place.read("config.toml") + &format!("path = ['{path}']\n"));
        folder
    }

    /// An empty one, which that torc trusts, and in which it does not look.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn beside(place: &Place) -> Self {
        let (folder, groups) = trusted_folder();
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        place.write("config.toml", format!("[plugins]\ntrusted_groups = {groups:?}\n"));
        Self(folder)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes a library in that Cargo built of an example of torc-plugins.
    ///
    /// # Panics
    /// When it was not built.
    #[track_caller]
    pub fn take_example(&self, name: &str) -> PathBuf {
        let file = format!("libtorc_{name}.so");
        let built = torc().parent().expect("it is built somewhere").join("examples").join(&file);
        let taken = self.path().join(file);
        fs::copy(&built, &taken).unwrap_or_else(|error| {
            panic!("{}: {error}; cargo build -p torc-plugins --examples builds it", built.display())
        });
        fs::set_permissions(&taken, PermissionsExt::from_mode(0o755)).expect("it is ours");
        taken
    }

    /// Builds the example in C of this name, with Debian's libjansson-dev.
    ///
    /// # Panics
    /// When it cannot be built.
    #[track_caller]
    pub fn build_example_in_c(&self, name: &str) -> PathBuf {
        let plugins = checkout().join("torc-plugins");
        let library = self.path().join(format!("libtorc_{name}.so"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-I"]).arg(plugins.join("sdk/include"));
        cc.arg(plugins.join(format!("examples/{name}.c"))).args(["-ljansson", "-o"]).arg(&library);
        assert!(cc.status().expect("cc is installed").success(), "it is built");
        library
    }

    /// Takes a program in, with this text.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write_program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(format!("torc-plugin-{name}"));
        fs::write(&path, text).expect("it is written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
        path
    }
}

/// A place with a folder of plugins, in which torc looks when it is told to.
pub struct PluginSite {
    place: Place,
    folder: PluginFolder,
}

impl Deref for PluginSite {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl PluginSite {
    /// One with these examples of torc-plugins.
    ///
    /// # Panics
    /// When they were not built.
    #[track_caller]
    pub fn of(place: Place, examples: &[&str]) -> Self {
        let folder = PluginFolder::beside(&place);
        for name in examples {
            folder.take_example(name);
        }
        Self { place, folder }
    }

    /// The folder.
    pub fn plugins(&self) -> &PluginFolder {
        &self.folder
    }

    /// Its path, for `--plugin-path`.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn folder(&self) -> &str {
        self.folder.path().to_str().expect("UTF-8")
    }
}

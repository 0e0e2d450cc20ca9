//! Folders of plugins that torc trusts: below the folder that Cargo builds in, since everybody may write to /tmp.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Place, checkout, torc};

/// A folder of plugins, for the torc of a place.
pub struct PluginFolder(TempDir);

impl PluginFolder {
    /// An empty one, in which that torc looks. However the checkout is, its groups are trusted.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn of(place: &Place) -> Self {
        let target = torc().parent().expect("it is built somewhere");
        let folder = tempfile::tempdir_in(target).expect("a folder");
        let group = |path: &Path| path.metadata().expect("it is there").gid().to_string();
        let groups: Vec<String> = folder.path().ancestors().map(group).collect();
        let path = folder.path().display();
        place.write(
            "config.toml",
            format!("[plugins]\npath = ['{path}']\ntrusted_groups = {groups:?}\n"),
        );
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

//! What an author of a plugin begins with: a small launcher that works, with all that it is built from.
//!
//! Owns: the files. Does not know: where they are written. Invariant: nothing is needed beyond them but a compiler, and
//! for Rust serde and serde_json, for C jansson.

mod sdk;

use crate::about::is_name;

/// A step to try a launcher with.
const STEP: &str = include_str!("../../starter/step.json");

/// In which form a plugin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A library in Rust.
    Rust,
    /// A library in C.
    C,
    /// A program.
    Process,
    /// No code: a launcher template in a spec.
    Template,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The plugin's name. A library in Rust has `_` for each `-`.
    pub name: String,
    /// What it consists of.
    pub files: Vec<SourceFile>,
    /// What builds it, if it is built.
    pub build: Option<String>,
    /// What checks it.
    pub check: String,
}

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where, below the project's folder.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// Whether it can be executed.
    pub is_program: bool,
}

/// No project can have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No plugin can.
    #[error(
        "`{0}` cannot be the name of a plugin: it has letters, digits, `-` and `_` only, and 64 at most"
    )]
    NoName(String),
    /// The library would have the name of the SDK.
    #[error(
        "a library in Rust cannot be called `plugin`, since it would have the name of what it is built with"
    )]
    Taken,
}

/// A project for a new plugin.
///
/// # Errors
/// When it cannot have this name.
pub fn project(form: Form, name: &str) -> Result<Project, NameError> {
    if !is_name(name) {
        return Err(NameError::NoName(name.to_owned()));
    }
    let name = match form {
        // Cargo names the file after the library, whose name is a word of the language.
        Form::Rust => name.replace('-', "_"),
        _ => name.to_owned(),
    };
    if form == Form::Rust && name == "plugin" {
        return Err(NameError::Taken);
    }
    let (files, build, check) = match form {
        Form::Rust => (
            rust(),
            Some("cargo build --release"),
            "torc plugin check target/release/libtorc_@NAME@.so",
        ),
        Form::C => (c(), Some("make"), "torc plugin check ./libtorc_@NAME@.so"),
        Form::Process => (process(), None, "torc plugin check ./torc-plugin-@NAME@"),
        Form::Template => (template(), None, "torc validate @NAME@.yaml"),
    };
    let fill_in = |text: &str| text.replace("@NAME@", &name);
    let files = files.into_iter().map(|(path, content)| SourceFile {
        is_program: path.starts_with("torc-plugin-"),
        path: fill_in(&path),
        content: fill_in(&content),
    });
    let files = files.collect();
    Ok(Project { build: build.map(str::to_owned), check: fill_in(check), files, name })
}

/// Paths and contents, in which the name is filled in later.
type Files = Vec<(String, String)>;

fn files(of: &[(&str, &str)]) -> Files {
    of.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

fn rust() -> Files {
    let manifest = include_str!("../../starter/rust/sdk.toml")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@RUST@", env!("CARGO_PKG_RUST_VERSION"));
    let mut files = files(&[
        ("Cargo.toml", include_str!("../../starter/rust/manifest.toml")),
        ("src/lib.rs", include_str!("../../starter/rust/lib.rs")),
        ("README.md", include_str!("../../starter/rust/readme.md")),
        (".gitignore", "/target\n"),
        ("step.json", STEP),
        ("sdk/include/torc_plugin.h", sdk::HEADER),
    ]);
    files.push(("sdk/Cargo.toml".to_owned(), manifest));
    files.extend(
        sdk::SOURCES.iter().map(|(path, content)| (format!("sdk/{path}"), (*content).to_owned())),
    );
    files
}

fn c() -> Files {
    files(&[
        ("Makefile", include_str!("../../starter/c/makefile")),
        ("launcher.c", include_str!("../../starter/c/launcher.c")),
        ("torc_plugin.h", sdk::HEADER),
        ("README.md", include_str!("../../starter/c/readme.md")),
        (".gitignore", "*.so\n"),
        ("step.json", STEP),
    ])
}

fn process() -> Files {
    files(&[
        ("torc-plugin-@NAME@", include_str!("../../starter/process/launcher.py")),
        ("README.md", include_str!("../../starter/process/readme.md")),
        ("step.json", STEP),
    ])
}

fn template() -> Files {
    files(&[
        ("@NAME@.yaml", include_str!("../../starter/template/spec.yaml")),
        ("README.md", include_str!("../../starter/template/readme.md")),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// All files below a folder, by their paths below it.
    fn below(folder: &Path, at: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder.join(at)).expect("a folder");
        let mut found = BTreeSet::new();
        for entry in entries {
            let entry = entry.expect("it is listed");
            let path = format!("{at}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                found.extend(below(folder, &path))
            } else {
                found.extend([path])
            }
        }
        found
    }

    #[test]
    fn an_author_is_given_every_source_of_the_sdk() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
        let given: BTreeSet<String> =
            sdk::SOURCES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(given, below(&sdk, "src"));
        for (path, content) in sdk::SOURCES {
            assert_eq!(*content, std::fs::read_to_string(sdk.join(path)).expect("is there"));
        }
    }

    #[test]
    fn the_name_is_filled_in_everywhere() {
        for form in [Form::Rust, Form::C, Form::Process, Form::Template] {
            let project = project(form, "my-own").expect("a name");
            for file in &project.files {
                assert!(!file.path.contains('@'), "{}", file.path);
                for left in ["@NAME@", "@VERSION@", "@RUST@"] {
                    assert!(!file.content.contains(left), "{left} in {}", file.path);
                }
            }
        }
        let names = |form| project(form, "my-own").expect("a name").name;
        assert_eq!(names(Form::Rust), "my_own");
        assert_eq!(names(Form::C), "my-own");
        let programs = project(Form::Process, "x").expect("a name").files;
        let programs: Vec<String> =
            programs.into_iter().filter(|file| file.is_program).map(|file| file.path).collect();
        assert_eq!(programs, ["torc-plugin-x"]);
    }

    #[test]
    fn not_every_name_can_be_given() {
        let refused = |form, name| project(form, name).map(|project| project.name);
        assert_eq!(refused(Form::C, "../x"), Err(NameError::NoName("../x".to_owned())));
        assert_eq!(refused(Form::Rust, "plugin"), Err(NameError::Taken));
        assert_eq!(refused(Form::Process, "plugin"), Ok("plugin".to_owned()));
    }
}

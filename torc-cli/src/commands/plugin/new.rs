//! `torc plugin new`: a folder with a small launcher that works, for its author to go on from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use torc_plugins::starter::{self, Form, Project, SourceFile};

use crate::args::{Format, Language, PluginNewArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::json;

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    folder: &'a Path,
    files: Vec<&'a str>,
    build: Option<&'a str>,
    check: &'a str,
}

pub(super) fn execute(args: &PluginNewArgs, format: Format) -> Result<Exit, Failure> {
    let form = match args.lang {
        Language::Rust => Form::Rust,
        Language::C => Form::C,
        Language::Process => Form::Process,
        Language::Template => Form::Template,
    };
    let project = starter::project(form, &args.name);
    let project = project.map_err(|error| Failure::new(Exit::Usage, error))?;
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    make_empty(&folder)?;
    for file in &project.files {
        let path = folder.join(&file.path);
        write(&path, file).map_err(|error| unwritten(&path, &error))?;
    }
    match format {
        Format::Json => json(&Written {
            name: &project.name,
            folder: &folder,
            files: project.files.iter().map(|file| file.path.as_str()).collect(),
            build: project.build.as_deref(),
            check: &project.check,
        }),
        Format::Table => print(&project, &args.name, &folder),
    }
    Ok(Exit::Success)
}

/// Nothing of anybody's is written over.
fn make_empty(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
    let mut entries = fs::read_dir(folder).map_err(|error| unwritten(folder, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            let message = format!("{} is not empty; name another folder", folder.display());
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("cannot write {}: {error}", path.display()))
}

fn write(path: &Path, file: &SourceFile) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if file.is_program { 0o777 } else { 0o666 };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened?.write_all(file.content.as_bytes())
}

fn print(project: &Project, asked: &str, folder: &Path) {
    let name = &project.name;
    if name != asked {
        outln!("it is called `{name}`, since a library in Rust has no `-` in its name");
    }
    outln!("`{name}` is in {}; README.md says more. There:", folder.display());
    for command in project.build.iter().chain([&project.check]) {
        outln!("  {command}");
    }
}

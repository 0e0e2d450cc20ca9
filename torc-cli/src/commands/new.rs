//! `torc new`: a commented spec that is valid, for its author to go on from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::args::{NewArgs, Starter};
use crate::exit::{Exit, Failure};
use crate::out::{outln, pass_on};

pub(crate) fn execute(args: &NewArgs) -> Result<Exit, Failure> {
    let (kind, text) = match args.kind {
        Starter::Local => ("local", include_str!("../../starter/local.yaml")),
        Starter::Jobs => ("jobs", include_str!("../../starter/jobs.yaml")),
        Starter::MultiNode => ("multi-node", include_str!("../../starter/multi-node.yaml")),
        Starter::Mpi => ("mpi", include_str!("../../starter/mpi.yaml")),
        Starter::Sweep => ("sweep", include_str!("../../starter/sweep.yaml")),
    };
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{kind}.yaml")));
    if path == Path::new("-") {
        pass_on(text.as_bytes());
        return Ok(Exit::Success);
    }
    write_new(&path, &text.replace("FILE", &path.to_string_lossy()))?;
    outln!("{} is written; its first lines say how it is run", path.display());
    Ok(Exit::Success)
}

/// Nothing of anybody's is written over.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            Exit::Usage,
            format!("{} is there already; name another file", path.display()),
        ),
        _ => Failure::new(Exit::Environment, format!("cannot write {}: {error}", path.display())),
    })
}

//! `torc completions`: what a shell needs to complete the command line.

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs};
use crate::exit::{Exit, Failure};
use crate::out::pass_on;

pub(crate) fn execute(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "torc", &mut script);
    pass_on(&script);
    Ok(Exit::Success)
}

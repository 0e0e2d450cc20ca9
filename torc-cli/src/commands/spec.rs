//! `torc spec`: a spec in another format, and the JSON Schema of all.

use torc_core::spec::{self, Rejected};

use crate::args::{self, SpecCommand, SpecConvertArgs, SpecFormat};
use crate::exit::{Exit, Failure};
use crate::out::pass_on;
use crate::render::{diagnostics, json};
use crate::spec_file;

pub(crate) fn execute(command: &SpecCommand, format: args::Format) -> Result<Exit, Failure> {
    match command {
        SpecCommand::Convert(args) => convert(args, format),
        SpecCommand::Schema => {
            json(&spec::schema());
            Ok(Exit::Success)
        }
    }
}

fn convert(args: &SpecConvertArgs, format: args::Format) -> Result<Exit, Failure> {
    let (bytes, source) = spec_file::bytes(&args.spec)?;
    let into = match args.to {
        SpecFormat::Yaml => spec::Format::Yaml,
        SpecFormat::Json => spec::Format::Json,
        SpecFormat::Json5 => spec::Format::Json5,
        SpecFormat::Kdl => spec::Format::Kdl,
    };
    match spec::convert(&bytes, spec::Format::from_extension(&source.name), into) {
        Ok(text) => {
            pass_on(text.as_bytes());
            Ok(Exit::Success)
        }
        Err(Rejected { problems }) => {
            diagnostics::print(&source, &problems);
            if format == args::Format::Json {
                json(&diagnostics::listing(&source, &problems));
            }
            Err(Failure::silent(Exit::SpecInvalid))
        }
    }
}

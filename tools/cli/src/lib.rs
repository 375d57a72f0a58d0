//! The command-line tool: `check` finds mistakes in configurations, `explain` shows what Envoy sees of a message, and
//! `init` writes a configuration.
//!
//! All of it is in [`run`], which has no other way to the terminal than its [`Io`].

mod check;
mod explain;
mod files;
mod init;
mod protocol;
mod spot;
mod terminal;
mod yaml;

use std::ffi::OsString;
use std::io;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use terminal::Io;

use terminal::Exit;

/// Envoy filters for MQTT, CoAP and DNS: check configurations, explain messages, write configurations
#[derive(Debug, Parser)]
#[command(name = "beyond-http", version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    /// When to colour results: on a terminal (unless NO_COLOR is set), always or never
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: When,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Init(init::InitArgs),
    /// Print a completion script for a shell
    Completions {
        shell: Shell,
    },
}

/// Runs the tool with these arguments, the first of which is its name. Returns the exit code of the process: 0 if all is
/// well, 1 if what was checked has mistakes, 2 if something could not be used.
#[must_use]
pub fn run<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>, io: &mut Io<'_>) -> u8 {
    match attempt(args, io) {
        Ok(exit) => exit as u8,
        // Nobody reads on: `beyond-http … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine as u8,
        Err(error) => {
            // Where this cannot be written either, there is nobody to tell.
            let _ = io.complain(&error.to_string());
            Exit::Unusable as u8
        }
    }
}

fn attempt<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    io: &mut Io<'_>,
) -> io::Result<Exit> {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            write!(io.err, "{error}")?;
            return Ok(Exit::Unusable);
        }
        // Help, and the version.
        Err(help) => {
            write!(io.out, "{help}")?;
            return Ok(Exit::Fine);
        }
    };
    match arguments.color {
        When::Auto => {}
        When::Always => io.colour = true,
        When::Never => io.colour = false,
    }
    let exit = match &arguments.command {
        Command::Check(args) => check::run(args, io)?,
        Command::Explain(args) => explain::run(args, io)?,
        Command::Init(args) => init::run(args, io)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "beyond-http", &mut script);
            io.out.write_all(&script)?;
            Exit::Fine
        }
    };
    io.out.flush()?;
    Ok(exit)
}

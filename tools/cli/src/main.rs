//! The command-line tool, on a terminal or in a pipe.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let colour = io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb;
    let mut out = BufWriter::new(io::stdout().lock());
    let code = beyond_http::run(
        std::env::args_os(),
        &mut beyond_http::Io {
            asks: io::stdin().is_terminal() && io::stderr().is_terminal(),
            input: &mut io::stdin().lock(),
            out: &mut out,
            err: &mut io::stderr().lock(),
            colour,
        },
    );
    // What could not be written before cannot be now.
    let _ = out.flush();
    ExitCode::from(code)
}

//! The benches: everything side by side in one run, the sides taking turns within each round, so that what the machine does
//! meanwhile hits all of them. docs/benchmarks.md says how to run them and how to read what they print.

mod all;
mod coap;
mod codecs;
mod dns;
mod mqtt;

use std::path::Path;

use anyhow::{Context, Result, bail};
use integration::bench::results::Results;
use integration::bench::{compare, page};
use integration::root;

const USAGE: &str = "usage: bench all|codecs|mqtt|coap|dns|scale [options]   measures; `all` is codecs, mqtt, coap and dns
       bench compare <old.json> <new.json>             what differs, as a table
       bench page <results.json>…                      docs/benchmarks.md and docs/images/bench";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, args) = args.split_first().context(USAGE)?;
    match (command.as_str(), args) {
        ("all", _) => all::main(args),
        ("codecs", _) => codecs::main(args),
        ("mqtt", _) => mqtt::main(args),
        ("coap", _) => coap::main(args),
        ("dns", _) => dns::main(args),
        ("scale", _) => mqtt::scale::main(args),
        ("compare", [old, new]) => {
            let (old, new) = (Results::read(Path::new(old))?, Results::read(Path::new(new))?);
            print!("{}", compare::compare(&old, &new));
            Ok(())
        }
        ("page", [_, ..]) => write_page(args),
        _ => bail!("{USAGE}"),
    }
}

/// Puts the results of these files into the documentation.
fn write_page(files: &[String]) -> Result<()> {
    let runs: Vec<Results> =
        files.iter().map(|file| Results::read(Path::new(file))).collect::<Result<_>>()?;
    for results in &runs {
        page::write_plots(results, &root().join("docs/images/bench"))?;
    }
    let path = root().join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, page::update(&text, &runs, "images/bench")?)?;
    eprintln!("written: docs/benchmarks.md, docs/images/bench");
    Ok(())
}

//! Every comparison in one go. Each is a process of its own, so that none leaves anything to the next, and is pinned to cores
//! or not as it likes.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use integration::bench::results::Results;
use integration::bench::{Options, Run, page};

const USAGE: &str = "usage: bench all [--rounds N] [--quick] [--only codecs,mqtt,coap,dns]";

const COMPARISONS: [&str; 4] = ["codecs", "mqtt", "coap", "dns"];

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = Options::parse(args, USAGE)?;
    ensure!(options.sides.is_empty(), "{USAGE}");
    let run = Run::begin(options.quick);
    let mut sections = Vec::new();
    for comparison in COMPARISONS.into_iter().filter(|name| options.wants(name)) {
        eprintln!("--- {comparison}");
        // It ends with this one, whatever ends this one.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(std::env::current_exe()?);
        command.args([comparison, "--rounds", &options.rounds.to_string()]);
        if options.quick {
            command.arg("--quick");
        }
        let status = command.status()?;
        ensure!(status.success(), "bench {comparison}: {status}");
        let results = Results::read(&Results::dir().join(format!("{comparison}.json")))?;
        sections.extend(results.sections);
    }
    let results = run.end(sections);
    // As a name: 2026-01-02T03-04-05Z.
    let name = results.started.replace(':', "-");
    let dir = Results::dir();
    results.write(&dir.join(format!("{name}.json")))?;
    page::write_plots(&results, &dir.join(&name))?;
    let page = format!("# Benchmarks\n\n{}", page::sections(&[results], &name));
    fs::write(dir.join(format!("{name}.md")), page)?;
    eprintln!("written: .build/bench/{name}.md");
    Ok(())
}

//! Commands as they are shown.

use anyhow::{Result, ensure};
use integration::PATIENCE;
use integration::process::{Process, program};

use crate::check_stop;

/// Runs a command to its end, and shows it with what it said, which has to be as expected.
pub(crate) fn expect(name: &str, args: &[&str], is_expected: impl Fn(&str) -> bool) -> Result<()> {
    let said = run(name, args)?;
    ensure!(is_expected(&said), "{name} said something else than expected: {said:?}");
    if !said.is_empty() {
        println!("    → {said}");
    }
    Ok(())
}

/// Shows a command, and runs it to its end: what it said.
pub(crate) fn run(name: &str, args: &[&str]) -> Result<String> {
    let mut process = start(name, args)?;
    process.wait(PATIENCE)?;
    Ok(format!("{}{}", process.stdout(), process.stderr()).trim().to_owned())
}

/// Starts a command, and shows it as a shell takes it.
pub(crate) fn start(name: &str, args: &[&str]) -> Result<Process> {
    check_stop()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/+=@".contains(c);
    let shown = args
        .iter()
        .map(|arg| if arg.chars().all(is_plain) { (*arg).to_owned() } else { format!("'{arg}'") });
    let shown: Vec<_> = std::iter::once(name.to_owned()).chain(shown).collect();
    println!("    {}", shown.join(" "));
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    Process::start(name, &program(name)?, |_| Ok(args))
}

//! Where results and complaints go.

use std::io::{self, BufRead, Write};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Fine = 0,
    /// What was to be checked has mistakes.
    Mistakes = 1,
    /// It could not be used: wrong arguments, a file that cannot be read or written.
    Unusable = 2,
}

/// What a command talks to.
pub struct Io<'a> {
    /// Answers to questions, and files named `-`.
    pub input: &'a mut dyn BufRead,
    /// Results.
    pub out: &'a mut dyn Write,
    /// Complaints and questions.
    pub err: &'a mut dyn Write,
    /// Whether there is somebody to ask.
    pub asks: bool,
    /// Whether results are coloured.
    pub colour: bool,
}

impl Io<'_> {
    /// Says why something cannot be done.
    pub(crate) fn complain(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.err, "beyond-http: {what}")
    }

    /// Says what may be of interest.
    pub(crate) fn note(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.err, "note: {what}")
    }

    /// Red or yellow, on a terminal.
    pub(crate) fn paint(&self, is_bad: bool, text: &str) -> String {
        match (self.colour, is_bad) {
            (false, _) => text.to_owned(),
            (true, true) => format!("\x1b[1;31m{text}\x1b[0m"),
            (true, false) => format!("\x1b[1;33m{text}\x1b[0m"),
        }
    }

    /// Bold, on a terminal.
    pub(crate) fn bold(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

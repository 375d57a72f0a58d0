//! Messages and requests on the terminal.

use std::io;

use super::drive::{Answer, Exchange};
use super::hex;
use crate::terminal::Io;

/// Content up to so many octets is shown as a whole.
const MAX_SHOWN: usize = 512;

/// A message: who sends it, what it says, and its octets.
pub(crate) fn message(io: &mut Io<'_>, who: &str, says: &str, octets: &[u8]) -> io::Result<()> {
    let who = io.bold(who);
    writeln!(io.out, "{who}: {says}")?;
    dump(io, octets)
}

/// Octets, indented.
pub(crate) fn dump(io: &mut Io<'_>, octets: &[u8]) -> io::Result<()> {
    for line in hex::lines(octets.get(..MAX_SHOWN).unwrap_or(octets)) {
        writeln!(io.out, "    {line}")?;
    }
    if octets.len() > MAX_SHOWN {
        writeln!(io.out, "    … and {} octets more", octets.len() - MAX_SHOWN)?;
    }
    Ok(())
}

/// A request's header section.
pub(crate) fn request(io: &mut Io<'_>, exchange: &Exchange) -> io::Result<()> {
    let line = io.bold(&format!("Envoy sees {} {}", exchange.method, exchange.path));
    writeln!(io.out, "{line}")?;
    writeln!(io.out, "    :authority: {}", exchange.authority)?;
    for (name, value) in &exchange.headers {
        writeln!(io.out, "    {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    Ok(())
}

/// How many octets of content a request has, and which.
pub(crate) fn content(io: &mut Io<'_>, octets: &[u8]) -> io::Result<()> {
    if octets.is_empty() {
        return writeln!(io.out, "    no content");
    }
    let text = hex::readable(octets).filter(|_| octets.len() <= MAX_SHOWN);
    let text = text.map(|text| format!(": {text}")).unwrap_or_default();
    writeln!(io.out, "    content, {}{text}", count(octets.len()))?;
    for line in hex::lines(octets.get(..MAX_SHOWN).unwrap_or(octets)) {
        writeln!(io.out, "        {line}")?;
    }
    Ok(())
}

/// What a request is answered with.
pub(crate) fn answer(io: &mut Io<'_>, answer: &Answer) -> io::Result<()> {
    let line = io.bold(&format!("answered with {}", answer.status));
    let body = match answer.body.len() {
        0 => String::new(),
        n => format!(" and {} of content", count(n)),
    };
    writeln!(io.out, "{line}{body}")
}

/// `1 octet`, `2 octets`
pub(crate) fn count(octets: usize) -> String {
    format!("{octets} octet{}", if octets == 1 { "" } else { "s" })
}

//! Files that the user names.

use std::fs::File;
use std::io::{self, BufRead, Read as _};

/// Larger files are refused.
const MAX_SIZE: u64 = 64 << 20;

/// The content of a file; `-` is `input`.
pub(crate) fn read(name: &str, input: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = match name {
        "-" => input.take(MAX_SIZE + 1).read_to_end(&mut content)?,
        name => File::open(name)?.take(MAX_SIZE + 1).read_to_end(&mut content)?,
    };
    if read as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("is larger than {} MiB", MAX_SIZE >> 20)));
    }
    Ok(content)
}

/// The same as text.
pub(crate) fn read_text(name: &str, input: &mut dyn BufRead) -> io::Result<String> {
    let content = read(name, input)?;
    String::from_utf8(content).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("is no UTF-8 text, from octet {at} on"))
    })
}

//! Octets as text, and back.

/// Reads octets as people and tools write them: `10 0c 00`, `100c00`, `10:0c:00`, `0x10, 0x0c` or `\x10\x0c`.
///
/// # Errors
/// Says at which character it is wrong.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut high = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if let Some(digit) = character.to_digit(16) {
            let is_prefix = character == '0' && high.is_none();
            if is_prefix && characters.next_if(|(_, next)| matches!(next, 'x' | 'X')).is_some() {
                continue;
            }
            match high.take() {
                None => high = Some((digit as u8, at)),
                Some((high, _)) => octets.push(high << 4 | digit as u8),
            }
            continue;
        }
        let is_escape = character == '\\' && characters.next_if(|(_, next)| *next == 'x').is_some();
        if !is_escape && !character.is_whitespace() && !matches!(character, ':' | ',' | '-') {
            return Err(format!("is no hexadecimal digit: {character:?} at character {}", at + 1));
        }
        if let Some((_, at)) = high {
            return Err(format!("is half an octet at character {}", at + 1));
        }
    }
    match high {
        Some((_, at)) => Err(format!("ends with half an octet at character {}", at + 1)),
        None => Ok(octets),
    }
}

/// All octets, 32 to a line.
pub(crate) fn lines(octets: &[u8]) -> Vec<String> {
    octets.chunks(32).map(spaced).collect()
}

/// `10 0c 00`
pub(crate) fn spaced(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(" ")
}

/// `100c00`
pub(crate) fn joined(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Text, if it is some that can be shown.
pub(crate) fn readable(octets: &[u8]) -> Option<&str> {
    let is_shown = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    str::from_utf8(octets).ok().filter(is_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_may_be_written_in_several_ways() {
        for text in
            ["100c00", "10 0C 00", "10:0c:00\n", "0x10, 0x0c, 0x00", "\\x10\\x0c\\x00", "10-0c-00"]
        {
            assert_eq!(parse(text), Ok(vec![0x10, 0x0c, 0]), "{text}");
        }
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_none_says_where() {
        assert_eq!(parse("10 0g"), Err("is no hexadecimal digit: 'g' at character 5".to_owned()));
        assert_eq!(parse("10 0 00"), Err("is half an octet at character 4".to_owned()));
        assert_eq!(parse("100"), Err("ends with half an octet at character 3".to_owned()));
        assert!(parse("10 é").is_err());
    }
}

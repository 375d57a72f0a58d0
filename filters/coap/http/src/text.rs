//! Lists and parameters in header values (RFC 9110 §5.6).

/// The parts of a list, between `separator`s that are not within a quoted string, without white
/// space around them.
pub(crate) fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = text.bytes().position(|byte| {
            if std::mem::take(&mut escaped) {
                return false;
            }
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => escaped = quoted,
                _ => return byte == separator && !quoted,
            }
            false
        });
        let part = match end.and_then(|end| Some((text.get(..end)?, text.get(end + 1..)?))) {
            Some((part, after)) => {
                rest = Some(after);
                part
            }
            None => {
                rest = None;
                text
            }
        };
        Some(part.trim_matches([' ', '\t']))
    })
}

/// The bytes that a token or a quoted string stands for (RFC 9110 §5.6.4).
pub(crate) fn unquoted(value: &str) -> impl Iterator<Item = u8> + Clone {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let quoted = inner.is_some();
    let mut bytes = inner.unwrap_or(value).bytes();
    std::iter::from_fn(move || match bytes.next() {
        Some(b'\\') if quoted => bytes.next(),
        byte => byte,
    })
}

/// A parameter's name and value, white space around the equals sign tolerated.
pub(crate) fn parameter(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim_end(), value.trim_start()))
}

/// A whole number of seconds; one that is too large is the largest (RFC 9111 §1.2.2).
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_within_quotes_separates_nothing() {
        let parts: Vec<_> = split(r#"a;b="x;\";y" , "," ,c"#, b',').collect();
        assert_eq!(parts, [r#"a;b="x;\";y""#, r#"",""#, "c"]);
        assert_eq!(split("", b',').collect::<Vec<_>>(), [""]);
        assert!(unquoted(r#""x;\";y""#).eq(*b"x;\";y"));
        assert!(unquoted(r"a\b").eq(*br"a\b"));
    }

    #[test]
    fn seconds_are_digits() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("99999999999999999999"), Some(u32::MAX));
        for text in ["", "-1", "+1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}

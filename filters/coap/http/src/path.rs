//! Paths and queries (RFC 7252 §6.4, §6.5).

use std::fmt::Write;

use codec_coap::{OptionNumber, Utf8};

use crate::OptionSet;

/// The longest segment or argument, in bytes (RFC 7252 §5.10.1).
const MAX_LEN: usize = 255;

/// Why a path or a query has no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// A `%` without two digits, text that is not UTF-8, or a segment `.` or `..`.
    Malformed,
    /// A segment or an argument of more than 255 bytes.
    TooLong,
}

/// Adds the options that a path and a query are sent as.
pub(crate) fn to_options(
    path: &str,
    query: Option<&str>,
    (path_number, query_number): (OptionNumber, OptionNumber),
    options: &mut OptionSet,
) -> Result<(), PathError> {
    if !matches!(path, "" | "/") {
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            let segment = decode(segment)?;
            if matches!(&*segment, "." | "..") {
                return Err(PathError::Malformed);
            }
            options.push(path_number, &*segment);
        }
    }
    for argument in query.into_iter().flat_map(|query| query.split('&')) {
        options.push(query_number, &*decode(argument)?);
    }
    Ok(())
}

/// Percent-decodes (RFC 3986 §2.1).
fn decode(text: &str) -> Result<String, PathError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'%' => {
                let (high, low) = digit().zip(digit()).ok_or(PathError::Malformed)?;
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    if decoded.len() > MAX_LEN {
        return Err(PathError::TooLong);
    }
    String::from_utf8(decoded).map_err(|_| PathError::Malformed)
}

/// The path and the query that these options stand for.
pub(crate) fn from_options<'a>(
    path: impl Iterator<Item = Utf8<'a>>,
    query: impl Iterator<Item = Utf8<'a>>,
) -> String {
    let mut text = String::new();
    for segment in path {
        text.push('/');
        encode(segment, |byte| matches!(byte, b':' | b'@' | b'&'), &mut text);
    }
    if text.is_empty() {
        text.push('/');
    }
    for (index, argument) in query.enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        encode(argument, |byte| matches!(byte, b':' | b'@' | b'/' | b'?'), &mut text);
    }
    text
}

/// Percent-encodes what is neither unreserved, nor a sub-delim other than `&`, nor allowed besides
/// (RFC 3986 §2).
fn encode(text: Utf8<'_>, besides: fn(u8) -> bool, encoded: &mut String) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'()*+,;=".contains(&byte) || besides(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_coap::Options;
    use proptest::prelude::*;

    const URI: (OptionNumber, OptionNumber) = (OptionNumber::URI_PATH, OptionNumber::URI_QUERY);

    fn options(path: &str, query: Option<&str>) -> Result<OptionSet, PathError> {
        let mut options = OptionSet::new();
        to_options(path, query, URI, &mut options).map(|()| options)
    }

    fn there_and_back(path: &str, query: Option<&str>) -> String {
        let set = options(path, query).unwrap();
        let list = set.as_list();
        let options = Options::from(&*list);
        from_options(options.uri_path(), options.uri_query())
    }

    #[test]
    fn paths_and_queries_survive_the_way_to_options_and_back() {
        for (path, query, expected) in [
            ("", None, "/"),
            ("/", None, "/"),
            ("/a/b", Some("c=d&e"), "/a/b?c=d&e"),
            ("/a/", None, "/a/"),
            ("//a", None, "//a"),
            ("/%2F%3f%26%25/%C3%A9", Some("%26=/?:@"), "/%2F%3F&%25/%C3%A9?%26=/?:@"),
            ("/%2e%2e%2e", None, "/..."),
            ("/a", Some(""), "/a?"),
        ] {
            assert_eq!(there_and_back(path, query), expected);
        }
        assert_eq!(options(&format!("/{}", "a".repeat(256)), None), Err(PathError::TooLong));
        for path in ["/.", "/a/..", "/%2e%2E", "/%", "/%1", "/%zz", "/%ff", "/%+1"] {
            assert_eq!(options(path, None), Err(PathError::Malformed), "{path}");
        }
    }

    proptest! {
        #[test]
        fn segments_survive_the_way_to_a_path_and_back(
            segments in proptest::collection::vec("\\PC{1,20}", 1..5),
            arguments in proptest::collection::vec("\\PC{0,20}", 1..5),
        ) {
            prop_assume!(segments.iter().all(|segment| segment != "." && segment != ".."));
            let text = from_options(
                segments.iter().map(|text| Utf8::from(text.as_str())),
                arguments.iter().map(|text| Utf8::from(text.as_str())),
            );
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            let (path, query) = text.split_once('?').unwrap();
            let set = options(path, Some(query)).unwrap();
            let list = set.as_list();
            let options = Options::from(&*list);
            prop_assert!(options.uri_path().eq(segments.iter().map(String::as_str)));
            prop_assert!(options.uri_query().eq(arguments.iter().map(String::as_str)));
        }
    }
}

//! Topic names and topic filters (§4.7), shared subscriptions (§4.8.2).

use core::fmt;

use crate::number::Version;
use crate::text;

/// Why a string is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicNameError {
    /// A topic name has at least one character (§4.7.3).
    Empty,
    /// A topic name has no wildcard characters (§4.7.1); the first one.
    Wildcard(char),
    /// A topic name does not include U+0000 (§4.7.3).
    NullCharacter,
    /// A topic name has at most 65,535 bytes (§4.7.3).
    TooLong,
}

impl TopicNameError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "topic_name_empty",
            Self::Wildcard(_) => "topic_name_wildcard",
            Self::NullCharacter => "topic_name_null_character",
            Self::TooLong => "topic_name_too_long",
        }
    }
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("topic name is empty"),
            Self::Wildcard(wildcard) => write!(f, "topic name contains the wildcard {wildcard}"),
            Self::NullCharacter => f.write_str("topic name contains the null character"),
            Self::TooLong => f.write_str("topic name is longer than 65535 bytes"),
        }
    }
}

impl core::error::Error for TopicNameError {}

/// Why a string is not a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicFilterError {
    /// A topic filter has at least one character (§4.7.3).
    Empty,
    /// `#` must be the last character and stand alone in its level (§4.7.1.2).
    MultiLevelWildcard,
    /// `+` must stand alone in its level (§4.7.1.3).
    SingleLevelWildcard,
    /// A topic filter does not include U+0000 (§4.7.3).
    NullCharacter,
    /// A topic filter has at most 65,535 bytes (§4.7.3).
    TooLong,
    /// A share name has at least one character (§4.8.2).
    ShareNameEmpty,
    /// A share name does not include `+` or `#` (§4.8.2).
    ShareNameWildcard,
    /// A share name is followed by `/` and a topic filter (§4.8.2).
    SharedFilterMissing,
}

impl TopicFilterError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "topic_filter_empty",
            Self::MultiLevelWildcard => "topic_filter_multi_level_wildcard",
            Self::SingleLevelWildcard => "topic_filter_single_level_wildcard",
            Self::NullCharacter => "topic_filter_null_character",
            Self::TooLong => "topic_filter_too_long",
            Self::ShareNameEmpty => "share_name_empty",
            Self::ShareNameWildcard => "share_name_wildcard",
            Self::SharedFilterMissing => "shared_filter_missing",
        }
    }
}

impl fmt::Display for TopicFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "topic filter is empty",
            Self::MultiLevelWildcard => "topic filter has # elsewhere than as its last level",
            Self::SingleLevelWildcard => "topic filter has + beside other characters in a level",
            Self::NullCharacter => "topic filter contains the null character",
            Self::TooLong => "topic filter is longer than 65535 bytes",
            Self::ShareNameEmpty => "share name is empty",
            Self::ShareNameWildcard => "share name contains a wildcard",
            Self::SharedFilterMissing => "share name without topic filter",
        })
    }
}

impl core::error::Error for TopicFilterError {}

/// A valid topic name: what a message is published to (§4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Validates a topic name.
    ///
    /// # Errors
    ///
    /// The rule of §4.7 that the string breaks.
    #[inline]
    pub fn new(name: &'a str) -> Result<Self, TopicNameError> {
        check_name(name)?;
        Ok(Self(name))
    }

    /// The name as a string.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The topic levels, which `/` separates (§4.7.1.1); they may be empty.
    #[inline]
    pub fn levels(self) -> core::str::Split<'a, char> {
        self.0.split('/')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A valid topic filter, possibly of a shared subscription (§4.7, §4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter<'a> {
    full: &'a str,
    share_name: Option<&'a str>,
    filter: &'a str,
}

impl<'a> TopicFilter<'a> {
    /// Validates a topic filter. Shared subscriptions exist from MQTT 5.0 on: in MQTT 3.1.1
    /// `$share/…` is a filter like any other.
    ///
    /// # Errors
    ///
    /// The rule of §4.7 or §4.8.2 that the string breaks.
    #[inline]
    pub fn new(filter: &'a str, version: Version) -> Result<Self, TopicFilterError> {
        check_length(filter)?;
        Self::of_valid_length(filter, version)
    }

    #[inline]
    pub(crate) fn of_valid_length(
        full: &'a str,
        version: Version,
    ) -> Result<Self, TopicFilterError> {
        let (share_name, filter) = match full.strip_prefix("$share/") {
            Some(shared) if version == Version::V5 => {
                let (name, filter) = split_share(shared)?;
                (Some(name), filter)
            }
            _ => (None, full),
        };
        if filter.is_empty() {
            return Err(if share_name.is_some() {
                TopicFilterError::SharedFilterMissing
            } else {
                TopicFilterError::Empty
            });
        }
        if text::has_null_or_wildcard(full.as_bytes()) {
            check_wildcards(filter)?;
            if text::has_null(full.as_bytes()) {
                return Err(TopicFilterError::NullCharacter);
            }
        }
        Ok(Self { full, share_name, filter })
    }

    /// The whole filter as SUBSCRIBE carries it, `$share/…/` included.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.full
    }

    /// The share name of a shared subscription (§4.8.2).
    #[inline]
    pub const fn share_name(self) -> Option<&'a str> {
        self.share_name
    }

    /// The filter that topic names are matched against: without `$share/{ShareName}/`.
    #[inline]
    pub const fn filter(self) -> &'a str {
        self.filter
    }

    /// Whether messages published to that topic name reach a subscription with this filter (§4.7).
    #[inline]
    pub fn matches(self, name: TopicName<'_>) -> bool {
        matches(self.filter, name.0)
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.full)
    }
}

/// Whether a valid topic filter, without `$share/{ShareName}/`, matches a valid topic name (§4.7).
///
/// `+` stands for one level, `#` for any number of levels and the parent itself; neither stands for
/// a first level that begins with `$` (§4.7.2).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether some topic name matches both of two valid topic filters, without `$share/{ShareName}/`
/// (§4.7).
pub fn overlap(one: &str, other: &str) -> bool {
    let system = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if system(one) && wild(other) || system(other) && wild(one) {
        return false;
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(one), Some(other)) if one == "+" || other == "+" || one == other => {}
            _ => return false,
        }
    }
}

/// Checks a topic name; also used where a decoder or encoder has the string at hand.
#[inline(always)]
pub(crate) fn check_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name.len() > usize::from(u16::MAX) {
        return Err(TopicNameError::TooLong);
    }
    if text::has_null_or_wildcard(name.as_bytes()) {
        return Err(forbidden_in_name(name));
    }
    Ok(())
}

#[cold]
fn forbidden_in_name(name: &str) -> TopicNameError {
    match name.chars().find(|character| matches!(character, '+' | '#' | '\0')) {
        Some(wildcard @ ('+' | '#')) => TopicNameError::Wildcard(wildcard),
        _ => TopicNameError::NullCharacter,
    }
}

#[inline]
fn check_length(filter: &str) -> Result<(), TopicFilterError> {
    if filter.len() > usize::from(u16::MAX) { Err(TopicFilterError::TooLong) } else { Ok(()) }
}

/// Splits what follows `$share/` into share name and topic filter (§4.8.2).
fn split_share(shared: &str) -> Result<(&str, &str), TopicFilterError> {
    let (name, filter) = shared.split_once('/').unwrap_or((shared, ""));
    if name.is_empty() {
        return Err(TopicFilterError::ShareNameEmpty);
    }
    if name.contains(['+', '#']) {
        return Err(TopicFilterError::ShareNameWildcard);
    }
    Ok((name, filter))
}

/// Checks that each wildcard stands alone in its level, and `#` in the last one (§4.7.1).
fn check_wildcards(filter: &str) -> Result<(), TopicFilterError> {
    let mut levels = filter.split('/');
    while let Some(level) = levels.next() {
        if level == "#" {
            if levels.next().is_some() {
                return Err(TopicFilterError::MultiLevelWildcard);
            }
        } else if level.contains('#') {
            return Err(TopicFilterError::MultiLevelWildcard);
        } else if level != "+" && level.contains('+') {
            return Err(TopicFilterError::SingleLevelWildcard);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn valid(filter: &str) -> TopicFilter<'_> {
        TopicFilter::new(filter, Version::V5).unwrap()
    }

    fn invalid(filter: &str) -> TopicFilterError {
        TopicFilter::new(filter, Version::V5).unwrap_err()
    }

    fn name(name: &str) -> TopicName<'_> {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn topic_names_follow_section_4_7() {
        for good in ["/", "a", "/finance", "Accounts payable", "a//b", "$SYS/x", "ü/\u{10ffff}"] {
            assert_eq!(name(good).as_str(), good);
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new("a/+/b"), Err(TopicNameError::Wildcard('+')));
        assert_eq!(TopicName::new("a/#"), Err(TopicNameError::Wildcard('#')));
        assert_eq!(TopicName::new("a\0b"), Err(TopicNameError::NullCharacter));
        assert_eq!(TopicName::new(&"a".repeat(65_536)), Err(TopicNameError::TooLong));
        assert!(TopicName::new(&"a".repeat(65_535)).is_ok());
        assert!(name("a//b").levels().eq(["a", "", "b"]));
    }

    #[test]
    fn topic_filters_follow_section_4_7_1() {
        for good in [
            "sport/tennis/player1/#",
            "#",
            "sport/tennis/#",
            "+",
            "+/tennis/#",
            "sport/+/player1",
            "/+",
            "+/+",
            "/",
            "a/+/",
            "$share",
            "$SYS/#",
        ] {
            assert_eq!(valid(good).filter(), good);
            assert_eq!(valid(good).share_name(), None);
        }
        assert_eq!(invalid(""), TopicFilterError::Empty);
        for bad in ["sport/tennis#", "sport/tennis/#/ranking", "##", "#/", "#a", "+#"] {
            assert_eq!(invalid(bad), TopicFilterError::MultiLevelWildcard, "{bad}");
        }
        for bad in ["sport+", "+a", "++", "a/b+/c"] {
            assert_eq!(invalid(bad), TopicFilterError::SingleLevelWildcard, "{bad}");
        }
        assert_eq!(invalid("a\0"), TopicFilterError::NullCharacter);
        assert_eq!(invalid("+/\0"), TopicFilterError::NullCharacter);
        let long = "a".repeat(65_536);
        assert_eq!(invalid(&long), TopicFilterError::TooLong);
    }

    #[test]
    fn shared_subscriptions_follow_section_4_8_2() {
        let shared = valid("$share/consumer1/sport/tennis/+");
        assert_eq!(shared.share_name(), Some("consumer1"));
        assert_eq!(shared.filter(), "sport/tennis/+");
        assert_eq!(shared.as_str(), "$share/consumer1/sport/tennis/+");
        assert!(shared.matches(name("sport/tennis/player1")));
        assert_eq!(valid("$share/g//finance").filter(), "/finance");
        assert_eq!(valid("$share/g//").filter(), "/");

        assert_eq!(invalid("$share/"), TopicFilterError::ShareNameEmpty);
        assert_eq!(invalid("$share//a"), TopicFilterError::ShareNameEmpty);
        assert_eq!(invalid("$share/g"), TopicFilterError::SharedFilterMissing);
        assert_eq!(invalid("$share/g/"), TopicFilterError::SharedFilterMissing);
        assert_eq!(invalid("$share/+/a"), TopicFilterError::ShareNameWildcard);
        assert_eq!(invalid("$share/g#/a"), TopicFilterError::ShareNameWildcard);
        assert_eq!(invalid("$share/g/a#"), TopicFilterError::MultiLevelWildcard);
        assert_eq!(invalid("$share/g\0/a"), TopicFilterError::NullCharacter);
    }

    #[test]
    fn mqtt_3_1_1_knows_no_shared_subscriptions() {
        let filter = TopicFilter::new("$share/g", Version::V311).unwrap();
        assert_eq!((filter.share_name(), filter.filter()), (None, "$share/g"));
    }

    #[test]
    fn matching_follows_section_4_7() {
        for (filter, matching, other) in [
            (
                "sport/tennis/player1/#",
                &[
                    "sport/tennis/player1",
                    "sport/tennis/player1/ranking",
                    "sport/tennis/player1/score/wimbledon",
                ][..],
                &["sport/tennis/player2", "sport/tennis", "sport/tennis/player11"][..],
            ),
            ("sport/#", &["sport", "sport/", "sport/x"], &["sports", "/sport"]),
            ("#", &["a", "/", "a/b/c"], &["$SYS", "$SYS/a"]),
            (
                "sport/tennis/+",
                &["sport/tennis/player1", "sport/tennis/"],
                &["sport/tennis", "sport/tennis/player1/ranking"],
            ),
            ("sport/+", &["sport/"], &["sport"]),
            ("+/+", &["/finance", "a/b", "/"], &["finance", "a/b/c", "$SYS/a"]),
            ("/+", &["/finance"], &["finance", "/a/b"]),
            ("+", &["finance"], &["/finance", "$SYS"]),
            ("$SYS/#", &["$SYS", "$SYS/monitor/Clients"], &["SYS"]),
            ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor"]),
            ("+/monitor/Clients", &["a/monitor/Clients"], &["$SYS/monitor/Clients"]),
            ("a/$b/+", &["a/$b/c"], &["a/b/c"]),
            ("a/#", &["a/$b"], &[]),
            ("ACCOUNTS", &["ACCOUNTS"], &["Accounts", "ACCOUNTS/"]),
        ] {
            for topic in matching {
                assert!(valid(filter).matches(name(topic)), "{filter} {topic}");
            }
            for topic in other {
                assert!(!valid(filter).matches(name(topic)), "{filter} {topic}");
            }
        }
    }

    #[test]
    fn every_name_matches_itself_and_a_filter_of_its_shape() {
        for topic in ["a", "/", "a//b", "a/b/c/d"] {
            assert!(matches(topic, topic));
            let plus: String =
                topic.split('/').map(|_| "+").collect::<std::vec::Vec<_>>().join("/");
            assert!(matches(&plus, topic));
        }
    }

    #[test]
    fn filters_overlap_where_a_name_matches_both() {
        for (one, other, overlapping) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "+/b", true),
            ("a/#", "a", true),
            ("#", "a/b/c", true),
            ("+", "a/b", false),
            ("a/+/c", "a/#", true),
            ("a/b/#", "a/+", true),
            ("a/b/c/#", "a/+", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/+", true),
            ("/", "+", false),
            ("/", "+/+", true),
        ] {
            assert_eq!(overlap(one, other), overlapping, "{one} and {other}");
            assert_eq!(overlap(other, one), overlapping, "{other} and {one}");
        }
    }
}

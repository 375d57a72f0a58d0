//! Reads a filter's configuration and reports every mistake in it at once.
//!
//! serde stops at the first mistake. [`read`] notes it, takes the offending part out of the
//! document and tries again, so that one attempt to start Envoy shows everything there is to mend.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, DeserializeOwned, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is, such as `tcp_proxy_clusters[2].cluster`; empty for the whole document.
    pub path: String,
    /// What is wrong, and with which value.
    pub what: String,
}

impl Mistake {
    /// A mistake at this path.
    pub fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "configuration" } else { &self.path };
        write!(f, "{path}: {}", self.what)
    }
}

/// All mistakes of one configuration, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Mistakes {
    list: Vec<Mistake>,
    /// Which elements of each array were taken out, by their index in the user's document.
    removed: BTreeMap<String, Vec<usize>>,
}

impl Mistakes {
    /// Adds a mistake in what [`read`] returned. The indices in its path are those of the arrays as
    /// they were returned; it is reported with those of the user's document.
    pub fn push(&mut self, mistake: Mistake) {
        let mut path = String::new();
        let mut rest = mistake.path.as_str();
        while let Some((before, after)) = rest.split_once('[') {
            path.push_str(before);
            let Some((index, after)) = after.split_once(']') else { break };
            match index.parse() {
                Ok(index) => path.push_str(&format!("[{}]", self.original(&path, index))),
                Err(_) => path.push_str(&format!("[{index}]")),
            }
            rest = after;
        }
        path.push_str(rest);
        self.list.push(Mistake { path, ..mistake });
    }

    /// A number that has to be in this range; the nearest one there, if it is a mistake.
    pub fn whole(&mut self, path: &str, Whole(n): Whole, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = range.into_inner();
        if !(least..=most).contains(&n) {
            self.push(Mistake::new(path, format!("must be from {least} to {most} (got {n})")));
        }
        n.clamp(least, most)
    }

    /// A length of time that has to be in this range; the nearest one there, if it is a mistake.
    pub fn time(
        &mut self,
        path: &str,
        Seconds(time): Seconds,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let (least, most) = range.into_inner();
        if !(least..=most).contains(&time) {
            // As the user would write it.
            let from = if least.is_zero() { "0s".to_owned() } else { format!("{least:?}") };
            let what = format!("must be from {from} to {most:?} (got {time:?})");
            self.push(Mistake::new(path, what));
        }
        time.clamp(least, most)
    }

    /// The index in the user's document, where elements taken out still count.
    fn original(&self, array: &str, mut index: usize) -> usize {
        for gone in self.removed.get(array).into_iter().flatten() {
            if *gone <= index {
                index += 1;
            }
        }
        index
    }

    /// The mistakes; none if the configuration is good.
    #[must_use]
    pub fn into_list(self) -> Vec<Mistake> {
        self.list
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Reads a JSON document; an empty one means the defaults. Whatever could be read is returned
/// together with the mistakes, so that its meaning can be checked in the same run.
#[must_use]
pub fn read<T: DeserializeOwned + Default>(json: &[u8]) -> (T, Mistakes) {
    let mut mistakes = Mistakes::default();
    if json.trim_ascii().is_empty() {
        return (T::default(), mistakes);
    }
    let mut document: Value = match serde_json::from_slice(json) {
        Ok(document) => document,
        Err(error) => {
            mistakes.list.push(Mistake::new("", format!("is not JSON: {error}")));
            return (T::default(), mistakes);
        }
    };
    // serde would take a list for a structure's fields in their order.
    if !document.is_object() {
        mistakes.list.push(Mistake::new("", "is not an object"));
        return (T::default(), mistakes);
    }
    loop {
        let error = match serde_path_to_error::deserialize(&document) {
            Ok(config) => return (config, mistakes),
            Err(error) => error,
        };
        let value = remove(&mut document, error.path());
        let path = mistakes.take_out(error.path());
        let what = match &value {
            Some(value) => format!("{} (got {value})", error.inner()),
            None => error.inner().to_string(),
        };
        mistakes.list.push(Mistake::new(path, what));
        if value.is_none() {
            return (T::default(), mistakes);
        }
    }
}

/// Takes the value at `path` out of the document.
fn remove(document: &mut Value, path: &Path) -> Option<Value> {
    let segments: Vec<&Segment> = path.iter().collect();
    let (last, parents) = segments.split_last()?;
    let mut parent = document;
    for segment in parents {
        parent = match segment {
            Segment::Seq { index } => parent.get_mut(index)?,
            Segment::Map { key } => parent.get_mut(key)?,
            _ => return None,
        };
    }
    match (last, parent) {
        (Segment::Seq { index }, Value::Array(array)) if *index < array.len() => {
            Some(array.remove(*index))
        }
        (Segment::Map { key }, Value::Object(object)) => object.remove(key),
        _ => None,
    }
}

impl Mistakes {
    /// The path in the user's document of what is taken out now, which is noted.
    fn take_out(&mut self, path: &Path) -> String {
        let mut text = String::new();
        let segments: Vec<&Segment> = path.iter().collect();
        for (depth, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Seq { index } => {
                    let index = self.original(&text, *index);
                    if depth + 1 == segments.len() {
                        let gone = self.removed.entry(text.clone()).or_default();
                        gone.push(index);
                        gone.sort_unstable();
                    }
                    text.push_str(&format!("[{index}]"));
                }
                Segment::Map { key } | Segment::Enum { variant: key } => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
                Segment::Unknown => text.push('?'),
            }
        }
        text
    }
}

/// A length of time, written as in Envoy's own configuration: seconds with a unit, `10s` or
/// `0.25s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let malformed = || de::Error::custom("is not a duration such as 10s or 0.25s");
        let seconds = text.strip_suffix('s').ok_or_else(malformed)?;
        if !seconds.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(malformed());
        }
        let seconds: f64 = seconds.parse().map_err(|_| malformed())?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| malformed())
    }
}

/// A whole number. A number in a `google.protobuf.Struct` may come as a fraction with nothing after the point, and Envoy
/// makes text of one beyond 2,147,483,647 in a file in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Up to here every whole number is exact.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let expected = &"a whole number that is not negative";
        match Number::deserialize(deserializer)? {
            Number::Whole(n) => Ok(Self(n)),
            Number::Fraction(n) if n.fract() == 0.0 && (0.0..=EXACT).contains(&n) => {
                Ok(Self(n as u64))
            }
            Number::Negative(n) => Err(de::Error::invalid_value(Unexpected::Signed(n), expected)),
            Number::Fraction(n) => Err(de::Error::invalid_value(Unexpected::Float(n), expected)),
        }
    }
}

/// A number that may be a fraction: Envoy makes text of one in a file in YAML.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fraction(pub f64);

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Number::deserialize(deserializer)? {
            Number::Whole(n) => n as f64,
            Number::Negative(n) => n as f64,
            Number::Fraction(n) => n,
        }))
    }
}

/// A number as it arrives, which may be as text.
enum Number {
    Whole(u64),
    Negative(i64),
    Fraction(f64),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Number, E> {
                Ok(Number::Whole(n))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Number, E> {
                Ok(u64::try_from(n).map_or(Number::Negative(n), Number::Whole))
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Number, E> {
                Ok(Number::Fraction(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                let malformed = || E::invalid_value(Unexpected::Str(text), &self);
                if let Ok(n) = text.parse() {
                    return Ok(Number::Whole(n));
                }
                let n: f64 = text.parse().map_err(|_| malformed())?;
                if n.is_finite() { Ok(Number::Fraction(n)) } else { Err(malformed()) }
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Fraction, Seconds, Whole};

    impl JsonSchema for Seconds {
        fn schema_name() -> Cow<'static, str> {
            "Seconds".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "string",
                "pattern": "^[0-9]+([.][0-9]+)?s$",
                "description": "a duration such as 10s or 0.25s"
            })
        }
    }

    impl JsonSchema for Whole {
        fn schema_name() -> Cow<'static, str> {
            "Whole".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "integer", "minimum": 0 })
        }
    }

    impl JsonSchema for Fraction {
        fn schema_name() -> Cow<'static, str> {
            "Fraction".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "number" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        size: Option<Whole>,
        share: Option<Fraction>,
        wait: Option<Seconds>,
        rules: Vec<Rule>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        name: String,
    }

    fn mistakes(json: &str) -> Vec<String> {
        read::<Config>(json.as_bytes()).1.into_list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_and_times_have_ranges() {
        let mut mistakes = Mistakes::default();
        let seconds = |n| Duration::from_secs(n);
        assert_eq!(mistakes.whole("n", Whole(5), 1..=9), 5);
        assert_eq!(mistakes.time("t", Seconds(seconds(5)), seconds(1)..=seconds(9)), seconds(5));
        assert_eq!(mistakes.whole("n", Whole(0), 1..=9), 1);
        assert_eq!(mistakes.time("t", Seconds(seconds(10)), seconds(1)..=seconds(9)), seconds(9));
        let list: Vec<_> = mistakes.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(list, ["n: must be from 1 to 9 (got 0)", "t: must be from 1s to 9s (got 10s)"]);
    }

    #[test]
    fn a_good_document_is_read() {
        let (config, mistakes) = read::<Config>(br#"{"size": 3.0, "wait": "0.25s"}"#);
        assert!(mistakes.is_empty());
        assert_eq!(config.size, Some(Whole(3)));
        assert_eq!(config.wait, Some(Seconds(Duration::from_millis(250))));
        assert_eq!(read::<Config>(b" ").0, Config::default());
        // As Envoy hands on what stands in its own YAML.
        let (config, mistakes) = read::<Config>(br#"{"size": "3000000000", "share": "0.5"}"#);
        assert!(mistakes.is_empty());
        assert_eq!(config.size, Some(Whole(3_000_000_000)));
        assert_eq!(config.share, Some(Fraction(0.5)));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place_in_the_users_document() {
        let json = r#"{
            "size": -1, "share": "a half", "wait": "soon", "sise": 3,
            "rules": [{"name": "a"}, {"nam": "b", "name": 1}, {}, {"name": "c", "x": 1}, 7]
        }"#;
        assert_eq!(
            mistakes(json),
            [
                "rules[1].nam: unknown field `nam`, expected `name` (got \"b\")",
                "rules[1].name: invalid type: integer `1`, expected a string (got 1)",
                "rules[1]: missing field `name` (got {})",
                "rules[2]: missing field `name` (got {})",
                "rules[3].x: unknown field `x`, expected `name` (got 1)",
                "rules[4]: invalid type: integer `7`, expected struct Rule (got 7)",
                "share: invalid value: string \"a half\", expected a number (got \"a half\")",
                "sise: unknown field `sise`, expected one of `size`, `share`, `wait`, `rules` (got 3)",
                "size: invalid value: integer `-1`, expected a whole number that is not negative \
                 (got -1)",
                "wait: is not a duration such as 10s or 0.25s (got \"soon\")",
            ]
        );
    }

    #[test]
    fn a_mistake_of_meaning_is_reported_with_its_place_in_the_users_document() {
        let json = r#"{"rules": [{}, {"name": "a"}, 7, {"name": "b"}]}"#;
        let (config, mut mistakes) = read::<Config>(json.as_bytes());
        for index in 0..config.rules.len() {
            mistakes.push(Mistake::new(format!("rules[{index}].name"), "is silly"));
        }
        let last: Vec<_> = mistakes.into_list().iter().skip(2).map(ToString::to_string).collect();
        assert_eq!(last, ["rules[1].name: is silly", "rules[3].name: is silly"]);
    }

    #[test]
    fn what_is_not_an_object_is_one_mistake() {
        assert_eq!(mistakes("{").len(), 1);
        assert_eq!(mistakes("[]").len(), 1);
        assert_eq!(mistakes("1e5").len(), 1);
    }
}

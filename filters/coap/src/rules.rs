//! Rules: how each request travels to the next filter.

use std::time::Duration;

use codec_coap::{Code, Options};
use filter_config::{Mistake, Mistakes, Seconds};
use serde::Deserialize;

/// How a request travels to the next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Carry {
    /// As it is, in a stream that a CoAP server is at the other end of.
    #[default]
    Flow,
    /// As it is in such a stream, after a request that is only a header section was answered with 2xx.
    Check,
    /// As a complete HTTP request (RFC 8075), whose HTTP response becomes the CoAP response.
    Request,
}

impl Carry {
    /// A stable name, for the header `x-carry` and for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Check => "check",
            Self::Request => "request",
        }
    }
}

/// A method that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// 0.01
    Get,
    /// 0.02
    Post,
    /// 0.03
    Put,
    /// 0.04
    Delete,
    /// 0.05 (RFC 8132)
    Fetch,
    /// 0.06 (RFC 8132)
    Patch,
    /// 0.07 (RFC 8132)
    Ipatch,
}

impl Method {
    fn code(self) -> Code {
        match self {
            Self::Get => Code::GET,
            Self::Post => Code::POST,
            Self::Put => Code::PUT,
            Self::Delete => Code::DELETE,
            Self::Fetch => Code::FETCH,
            Self::Patch => Code::PATCH,
            Self::Ipatch => Code::IPATCH,
        }
    }
}

/// One rule. All of what it names must match; the first rule that matches a request decides.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The methods: `get`, `post`, `put`, `delete`, `fetch`, `patch`, `ipatch`. Default: any.
    #[serde(default)]
    pub methods: Option<Vec<Method>>,
    /// Paths of which one must match the Uri-Path: `/time` is that path alone, `/fw/*` every path with
    /// `fw` as its first segment and at least one more, `/fw/**` also `/fw` itself, `/**` every path.
    /// `*` and `**` can only stand for the last segments; percent-encoding is decoded. Default: any.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// Hosts of which one must be the Uri-Host, in upper or lower case. Default: any, or none.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// How the request travels: `flow`, `check` or `request`.
    pub carry: Carry,
    /// How long the answer to a `check` also holds for requests of the session with the same method and
    /// URI. Answers of 5xx are not kept. `check` only. Default `0s`: each request is checked.
    #[serde(default)]
    pub verdict_cache: Option<Seconds>,
}

/// A rule as the filter uses it.
#[derive(Debug)]
pub(crate) struct Rule {
    /// One bit for each of the first eight codes.
    methods: u8,
    paths: Option<Vec<Pattern>>,
    hosts: Option<Vec<String>>,
    pub(crate) carry: Carry,
    pub(crate) verdict_cache: Duration,
}

#[derive(Debug)]
struct Pattern {
    segments: Vec<Vec<u8>>,
    /// How many segments may follow: at least, and any number if so.
    more: Option<usize>,
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix('/').ok_or("must begin with a slash")?;
        let mut segments = Vec::new();
        let mut more = None;
        let mut parts = rest.split('/').peekable();
        if rest.is_empty() {
            parts.next();
        }
        while let Some(part) = parts.next() {
            more = match part {
                "*" => Some(1),
                "**" => Some(0),
                _ => {
                    segments.push(decode(part).ok_or("is not percent-encoded as a path is")?);
                    continue;
                }
            };
            if parts.peek().is_some() {
                return Err("has * before its last segment");
            }
        }
        Ok(Self { segments, more })
    }

    fn matches(&self, options: &Options<'_>) -> bool {
        let mut path = options.uri_path();
        for segment in &self.segments {
            if path.next().is_none_or(|other| other.as_bytes() != segment) {
                return false;
            }
        }
        match self.more {
            None => path.next().is_none(),
            Some(least) => path.take(least).count() == least,
        }
    }
}

/// Percent-decodes a segment (RFC 3986 §2.1).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? << 4 | digit()?).ok()?
        } else {
            byte
        });
    }
    Some(decoded)
}

impl Rule {
    pub(crate) fn compile(config: RuleConfig, path: &str, mistakes: &mut Mistakes) -> Self {
        let methods = config.methods.map_or(u8::MAX, |methods| {
            if methods.is_empty() {
                mistakes.push(Mistake::new(format!("{path}.methods"), "must not be empty"));
            }
            methods.iter().fold(0, |bits, method| bits | bit(method.code()))
        });
        let paths = config.paths.map(|paths| {
            if paths.is_empty() {
                mistakes.push(Mistake::new(format!("{path}.paths"), "must not be empty"));
            }
            let mut patterns = Vec::new();
            for (index, text) in paths.iter().enumerate() {
                match Pattern::compile(text) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(what) => mistakes.push(Mistake::new(
                        format!("{path}.paths[{index}]"),
                        format!("{what} (got {text:?})"),
                    )),
                }
            }
            patterns
        });
        if config.hosts.as_ref().is_some_and(Vec::is_empty) {
            mistakes.push(Mistake::new(format!("{path}.hosts"), "must not be empty"));
        }
        if config.verdict_cache.is_some() && config.carry != Carry::Check {
            let what = "has a meaning only with carry: check";
            mistakes.push(Mistake::new(format!("{path}.verdict_cache"), what));
        }
        Self {
            methods,
            paths,
            hosts: config.hosts,
            carry: config.carry,
            verdict_cache: config.verdict_cache.map_or(Duration::ZERO, |Seconds(time)| time),
        }
    }

    pub(crate) fn matches(&self, code: Code, options: &Options<'_>) -> bool {
        (self.methods == u8::MAX || self.methods & bit(code) != 0)
            && self
                .paths
                .as_ref()
                .is_none_or(|paths| paths.iter().any(|path| path.matches(options)))
            && self.hosts.as_ref().is_none_or(|hosts| {
                let named = options.uri_host();
                named.is_some_and(|named| {
                    hosts.iter().any(|host| host.as_bytes().eq_ignore_ascii_case(named.as_bytes()))
                })
            })
    }
}

fn bit(code: Code) -> u8 {
    1_u8.checked_shl(code.0.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use codec_coap::{CoapOption, OptionNumber};

    use super::*;

    fn matches(pattern: &str, path: &[&str]) -> bool {
        let options: Vec<_> =
            path.iter().map(|segment| CoapOption::new(OptionNumber::URI_PATH, *segment)).collect();
        Pattern::compile(pattern).expect("valid").matches(&Options::from(&*options))
    }

    #[test]
    fn a_pattern_is_compared_segment_by_segment() {
        for (pattern, path, expected) in [
            ("/", &[][..], true),
            ("/", &["a"], false),
            ("/a", &["a"], true),
            ("/a", &["a", ""], false),
            ("/a/", &["a", ""], true),
            ("/a/*", &["a"], false),
            ("/a/*", &["a", "b", "c"], true),
            ("/a/*", &["ab", "c"], false),
            ("/a/**", &["a"], true),
            ("/**", &[], true),
            ("/*", &[], false),
            ("/a%2Fb", &["a/b"], true),
            ("/a/b", &["a/b"], false),
            ("/%C3%BC", &["\u{fc}"], true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path:?}");
        }
    }

    #[test]
    fn a_pattern_that_could_mean_something_else_is_refused() {
        for pattern in ["a", "", "/*/a", "/**/a", "/%zz", "/%2"] {
            assert!(Pattern::compile(pattern).is_err(), "{pattern}");
        }
    }
}

//! The filter's configuration: what the user writes, and what it compiles to.

use std::time::Duration;

use bridge::Uri;
use codec_modbus::{Frame, Function};
use filter_config::{Mistake, Mistakes, Seconds, Whole, read};
use serde::Deserialize;

/// What the filter does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carries it to an HTTP connection manager as HTTP/2 streams.
    #[default]
    Bridge,
    /// Watches it on its way to the next filter.
    Observe,
}

/// How a request travels to the next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carry {
    /// In the stream of its unit, which a Modbus server is at the other end of.
    Flow,
    /// In that stream, after a request that is only a header section was answered with 2xx.
    Check,
    /// As an HTTP request, whose response has the answer.
    Request,
}

impl Carry {
    /// A stable name, for the header `x-carry` and for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Check => "check",
            Self::Request => "request",
        }
    }
}

/// The configuration as the user writes it.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the filter does with connections: `bridge` (default) or `observe`.
    pub mode: Mode,
    /// `:authority` of all requests. Default `modbus`. `bridge` only.
    pub authority: String,
    /// After this time a request that has no answer gets exception 0x0B. Default `5s`. `bridge` only.
    pub timeout: Seconds,
    /// How many requests of a client may wait for answers, 1 to 256. When so many do, nothing more is read from it.
    /// Default 16. `bridge` only.
    pub max_pending: Whole,
    /// How many units a client may have streams for, 1 to 256; a request for one more gets exception 0x06. Default 16.
    /// `bridge` only.
    pub max_flows: Whole,
    /// How requests travel. The first rule that matches decides; where none does it is `flow`. `bridge` only.
    pub rules: Vec<RuleConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            authority: "modbus".to_owned(),
            timeout: Seconds(Duration::from_secs(5)),
            max_pending: Whole(16),
            max_flows: Whole(16),
            rules: Vec::new(),
        }
    }
}

/// One rule. All of what it names must match.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The units. Default: all.
    pub units: Option<Vec<Whole>>,
    /// The functions, by name (`write_single_coil`) or number. Default: all.
    pub functions: Option<Vec<String>>,
    /// How such a request travels: `flow`, `check` or `request`.
    pub carry: Carry,
}

/// The configuration as the filter uses it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) authority: String,
    pub(crate) timeout: Duration,
    pub(crate) max_pending: usize,
    pub(crate) max_flows: usize,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    units: Option<Vec<u8>>,
    functions: Option<Vec<Function>>,
    carry: Carry,
}

impl Settings {
    pub(crate) fn read(json: &[u8]) -> Result<Self, Vec<Mistake>> {
        let (config, mut mistakes) = read(json);
        let settings = Self::compile(config, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.into_list()) }
    }

    fn compile(config: Config, mistakes: &mut Mistakes) -> Self {
        let is_authority = Uri::builder()
            .scheme("http")
            .authority(&*config.authority)
            .path_and_query("/")
            .build()
            .is_ok();
        if !is_authority {
            let what = format!("is no authority (got {:?})", config.authority);
            mistakes.push(Mistake::new("authority", what));
        }
        let times = Duration::from_millis(1)..=Duration::from_secs(3600);
        let rules = config.rules.into_iter().enumerate();
        Self {
            mode: config.mode,
            authority: config.authority,
            timeout: mistakes.time("timeout", config.timeout, times),
            max_pending: mistakes.whole("max_pending", config.max_pending, 1..=256) as usize,
            max_flows: mistakes.whole("max_flows", config.max_flows, 1..=256) as usize,
            rules: rules
                .map(|(n, rule)| Rule::compile(rule, &format!("rules[{n}]"), mistakes))
                .collect(),
        }
    }

    /// How this request travels.
    pub(crate) fn carry(&self, frame: &Frame<'_>) -> Carry {
        let rule = self.rules.iter().find(|rule| rule.matches(frame));
        rule.map_or(Carry::Flow, |rule| rule.carry)
    }
}

impl Rule {
    fn compile(config: RuleConfig, path: &str, mistakes: &mut Mistakes) -> Self {
        let units = config.units.map(|units| {
            let path = |n| format!("{path}.units[{n}]");
            let units = units.into_iter().enumerate();
            let units = units.map(|(n, unit)| mistakes.whole(&path(n), unit, 0..=255));
            units.filter_map(|unit| u8::try_from(unit).ok()).collect()
        });
        let functions = config.functions.map(|functions| {
            let mut known = Vec::new();
            for (n, text) in functions.iter().enumerate() {
                match text.parse() {
                    Ok(function) => known.push(function),
                    Err(()) => mistakes.push(Mistake::new(
                        format!("{path}.functions[{n}]"),
                        format!("is no function that has a name, nor 1 to 127 (got {text:?})"),
                    )),
                }
            }
            known
        });
        Self { units, functions, carry: config.carry }
    }

    fn matches(&self, frame: &Frame<'_>) -> bool {
        self.units.as_ref().is_none_or(|units| units.contains(&frame.unit))
            && self.functions.as_ref().is_none_or(|functions| functions.contains(&frame.function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_reported_together() {
        let json = br#"{"mode": "brigde", "authority": "a b", "timeout": "0s", "max_flows": 257,
            "rules": [{"carry": "flow", "units": [256], "functions": ["read", "200"]}]}"#;
        let mistakes = Settings::read(json).err().unwrap_or_default();
        let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            mistakes,
            [
                "mode: unknown variant `brigde`, expected `bridge` or `observe` (got \"brigde\")",
                "authority: is no authority (got \"a b\")",
                "timeout: must be from 1ms to 3600s (got 0ns)",
                "max_flows: must be from 1 to 256 (got 257)",
                "rules[0].units[0]: must be from 0 to 255 (got 256)",
                "rules[0].functions[0]: is no function that has a name, nor 1 to 127 (got \"read\")",
                "rules[0].functions[1]: is no function that has a name, nor 1 to 127 (got \"200\")",
            ]
        );
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let json = br#"{"rules": [
            {"units": [1, 2], "functions": ["write_single_coil", "43"], "carry": "check"},
            {"units": [2], "carry": "request"}]}"#;
        let settings = Settings::read(json).expect("valid");
        let carry = |unit, function| {
            let function = Function(function);
            settings.carry(&Frame { transaction: 0, unit, function, data: &[] })
        };
        assert_eq!(carry(1, 43), Carry::Check);
        assert_eq!(carry(2, 5), Carry::Check);
        assert_eq!(carry(2, 1), Carry::Request);
        assert_eq!(carry(1, 1), Carry::Flow);
    }
}

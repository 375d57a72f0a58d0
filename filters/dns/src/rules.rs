//! Rules: how each query travels to the next filter, or is answered here.

use std::time::Duration;

use codec_dns::{Class, Name, NameBuf, Opcode, RecordType};
use filter_config::{Mistake, Mistakes, Seconds};
use serde::Deserialize;

use crate::config::zone_name;

/// How a query travels to the next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Carry {
    /// Among others, in a stream that a DNS server is at the other end of.
    #[default]
    Flow,
    /// In such a stream, after a request that is only a header section was answered with 2xx.
    Check,
    /// As a complete HTTP request (RFC 8484), whose HTTP response has the answer.
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

/// What a query is answered without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// REFUSED.
    Refuse,
    /// NOTIMP.
    Notimp,
    /// NXDOMAIN.
    Nxdomain,
    /// Over UDP an empty answer with TC, on which a client comes again over TCP; else the query travels in its
    /// flow.
    Truncate,
    /// A HINFO record that says so little to a query of type ANY (RFC 8482 §4.2).
    Minimal,
    /// Nothing.
    Drop,
}

impl Answer {
    /// A stable name for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Notimp => "notimp",
            Self::Nxdomain => "nxdomain",
            Self::Truncate => "truncate",
            Self::Minimal => "minimal",
            Self::Drop => "drop",
        }
    }
}

/// One rule. All of what it names must match; the first rule that matches a query decides.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Zones of which the query name must be in one. Default: any name.
    #[serde(default)]
    pub zones: Option<Vec<String>>,
    /// The QTYPEs, by mnemonic or as `TYPE` and a number. Default: any.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// The QCLASSes, by mnemonic or as `CLASS` and a number. Default: any.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// The opcodes: `query`, `iquery`, `status`, `notify`, `update`, or a number. Default: `query`.
    #[serde(default)]
    pub opcodes: Option<Vec<String>>,
    /// How the query travels: `flow`, `check` or `request`.
    #[serde(default)]
    pub carry: Option<Carry>,
    /// What it is answered instead: `refuse`, `notimp`, `nxdomain`, `truncate`, `minimal` or `drop`.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// How long the answer to a `check` also holds for queries from the same address with the same name and type.
    /// Answers of 5xx are not kept. `check` only. Default `0s`: each query is checked.
    #[serde(default)]
    pub verdict_cache: Option<Seconds>,
}

/// What becomes of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Carry(Carry, Duration),
    Answer(Answer),
}

/// A rule as the filter uses it.
#[derive(Debug)]
pub(crate) struct Rule {
    zones: Option<Vec<NameBuf>>,
    types: Option<Vec<RecordType>>,
    classes: Option<Vec<Class>>,
    opcodes: Vec<Opcode>,
    pub(crate) fate: Fate,
}

impl Rule {
    pub(crate) fn compile(config: RuleConfig, path: &str, mistakes: &mut Mistakes) -> Self {
        let zones =
            list(config.zones, &format!("{path}.zones"), mistakes, |text, path, mistakes| {
                zone_name(text, path, mistakes)
            });
        let types =
            list(config.types, &format!("{path}.types"), mistakes, |text, path, mistakes| {
                let what = "is no type that has a name, nor TYPE and a number";
                parse(text.parse().ok(), text, what, path, mistakes)
            });
        let classes =
            list(config.classes, &format!("{path}.classes"), mistakes, |text, path, mistakes| {
                let what = "is no class that has a name, nor CLASS and a number";
                parse(text.parse().ok(), text, what, path, mistakes)
            });
        let opcodes =
            list(config.opcodes, &format!("{path}.opcodes"), mistakes, |text, path, mistakes| {
                parse(opcode(text), text, "is no opcode", path, mistakes)
            });
        if config.verdict_cache.is_some() && config.carry != Some(Carry::Check) {
            let what = "has a meaning only with carry: check";
            mistakes.push(Mistake::new(format!("{path}.verdict_cache"), what));
        }
        let holds = config.verdict_cache.map_or(Duration::ZERO, |Seconds(time)| time);
        let only_any =
            types.as_ref().is_some_and(|types| types.iter().all(|it| *it == RecordType::ANY));
        if config.answer == Some(Answer::Minimal) && !only_any {
            let what = "answers nothing but types: [ANY]";
            mistakes.push(Mistake::new(format!("{path}.answer"), format!("minimal {what}")));
        }
        let fate = match (config.carry, config.answer) {
            (Some(carry), None) => Fate::Carry(carry, holds),
            (None, Some(answer)) => Fate::Answer(answer),
            (None, None) => {
                mistakes.push(Mistake::new(path, "needs carry or answer"));
                Fate::Carry(Carry::Flow, holds)
            }
            (Some(_), Some(_)) => {
                mistakes.push(Mistake::new(path, "cannot have both carry and answer"));
                Fate::Carry(Carry::Flow, holds)
            }
        };
        Self { zones, types, classes, opcodes: opcodes.unwrap_or(vec![Opcode::QUERY]), fate }
    }

    pub(crate) fn matches(
        &self,
        opcode: Opcode,
        name: Name<'_>,
        record_type: RecordType,
        class: Class,
    ) -> bool {
        self.opcodes.contains(&opcode)
            && self.types.as_ref().is_none_or(|types| types.contains(&record_type))
            && self.classes.as_ref().is_none_or(|classes| classes.contains(&class))
            && self
                .zones
                .as_ref()
                .is_none_or(|zones| zones.iter().any(|zone| name.is_in(zone.as_name())))
    }
}

fn opcode(text: &str) -> Option<Opcode> {
    let known = [Opcode::QUERY, Opcode::IQUERY, Opcode::STATUS, Opcode::NOTIFY, Opcode::UPDATE];
    let named = known.into_iter().find(|opcode| opcode.label() == text);
    named.or_else(|| text.parse().ok().filter(|number| *number < 16).map(Opcode))
}

fn parse<T>(
    parsed: Option<T>,
    text: &str,
    what: &str,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    if parsed.is_none() {
        mistakes.push(Mistake::new(path, format!("{what} (got {text:?})")));
    }
    parsed
}

fn list<T>(
    texts: Option<Vec<String>>,
    path: &str,
    mistakes: &mut Mistakes,
    parse: impl Fn(&str, &str, &mut Mistakes) -> Option<T>,
) -> Option<Vec<T>> {
    let texts = texts?;
    if texts.is_empty() {
        mistakes.push(Mistake::new(path, "must not be empty"));
    }
    let mut parsed = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        parsed.extend(parse(text, &format!("{path}[{index}]"), mistakes));
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        let config = serde_json::from_str(json).expect("a rule");
        let mut mistakes = Mistakes::default();
        let rule = Rule::compile(config, "rule", &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        rule
    }

    #[test]
    fn all_that_a_rule_names_must_match() {
        let rule = rule(
            r#"{"zones": ["corp.example"], "types": ["ANY", "TYPE65280"], "answer": "refuse"}"#,
        );
        let matches = |opcode, name: &str, number| {
            let name = NameBuf::from_text(name).expect("a name");
            rule.matches(opcode, name.as_name(), RecordType(number), Class::IN)
        };
        assert!(matches(Opcode::QUERY, "a.Corp.Example", 255));
        assert!(matches(Opcode::QUERY, "corp.example", 65_280));
        assert!(!matches(Opcode::QUERY, "corp.example", 1));
        assert!(!matches(Opcode::QUERY, "example", 255));
        assert!(!matches(Opcode::UPDATE, "corp.example", 255));
    }

    #[test]
    fn opcodes_have_names_or_numbers() {
        assert_eq!(opcode("update"), Some(Opcode::UPDATE));
        assert_eq!(opcode("6"), Some(Opcode(6)));
        assert_eq!(opcode("16"), None);
    }
}

//! What is wrong, and where.

use serde_json::json;

use crate::spot::Spot;
use crate::yaml::Place;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// It cannot work.
    Error,
    /// It works, but not as the documentation advises.
    Warning,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) at: Place,
    pub(crate) severity: Severity,
    /// Empty for the whole file.
    pub(crate) path: String,
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn json(&self, file: &str) -> serde_json::Value {
        json!({
            "file": file,
            "line": self.at.line,
            "column": self.at.column,
            "severity": self.severity.name(),
            "path": self.path,
            "message": self.what,
        })
    }
}

/// All findings of a file. What several filters have in common through an alias is reported once.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn error(&mut self, spot: &Spot, what: impl Into<String>) {
        self.add(Severity::Error, spot, what.into());
    }

    pub(crate) fn warning(&mut self, spot: &Spot, what: impl Into<String>) {
        self.add(Severity::Warning, spot, what.into());
    }

    fn add(&mut self, severity: Severity, spot: &Spot, what: String) {
        self.push(Finding { at: spot.at, severity, path: spot.path.clone(), what });
    }

    pub(crate) fn push(&mut self, finding: Finding) {
        let same = |known: &Finding| known.at == finding.at && known.what == finding.what;
        if !self.0.iter().any(same) {
            self.0.push(finding);
        }
    }

    /// By their places.
    pub(crate) fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| (finding.at, finding.severity));
        self.0
    }
}

//! `check`: whether configurations are right, and if not, all that is wrong.

mod around;
mod find;
mod finding;
mod routes;
mod settings;
mod tunnels;

use std::io;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::files;
use crate::protocol::Protocol;
use crate::spot::Spot;
use crate::terminal::{Exit, Io};
use crate::yaml::{self, Dialect, Place};
use find::{Found, OurFilter, is_type};
use finding::{Finding, Findings, Severity};
use settings::Settings;

/// Check filters' configurations, and what stands around them
#[derive(Debug, Args)]
#[command(
    long_about = "Checks a filter's own configuration (YAML or JSON), or any YAML that holds our filters somewhere: \
        Envoy's bootstrap, LDS or CDS, EnvoyFilter, WasmPlugin, TrafficExtension, EnvoyPatchPolicy, or an Envoy configuration in a ConfigMap. \
        Each filter's own configuration is read by the very parsers of the filter. Around it is checked what our \
        documentation asks for: errors are what cannot work, warnings are what it advises. What Envoy itself checks, such \
        as the names of its fields, is not checked: `envoy --mode validate` does that.",
    after_long_help = "Examples:\n  \
        beyond-http check envoy.yaml\n  \
        beyond-http check --filter dns my-filter.yaml\n  \
        beyond-http check --strict --format json envoy-configs/*.yaml\n  \
        kubectl get envoyfilters -A -o yaml | beyond-http check -\n\n\
        Exit codes: 0 all is right, 1 there are mistakes (with --strict also warnings), 2 a file cannot be read, is no YAML, \
        or nothing given has a filter of ours"
)]
pub(crate) struct CheckArgs {
    /// Files to check; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Which filter the configurations are for, instead of guessing by names
    #[arg(long, value_name = "FILTER")]
    filter: Option<Protocol>,
    /// Fail for warnings too
    #[arg(long)]
    strict: bool,
    /// How to print what is found
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    format: Format,
    /// Print only what is wrong
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// file:line:column: severity: path: what is wrong
    Text,
    /// One JSON object with `filters` and `findings`
    Json,
}

/// A filter that was checked.
struct Checked {
    at: Place,
    protocol: Protocol,
    told_by: String,
}

/// What became of a file.
struct Report {
    file: String,
    filters: Vec<Checked>,
    findings: Vec<Finding>,
    /// It is no YAML.
    malformed: bool,
}

pub(crate) fn run(args: &CheckArgs, io: &mut Io<'_>) -> io::Result<Exit> {
    let mut exit = Exit::Fine;
    let mut reports = Vec::new();
    for file in &args.files {
        match files::read_text(file, io.input) {
            Ok(text) => {
                let name = if file == "-" { "<stdin>" } else { file };
                reports.push(report(name, &text, args.filter));
            }
            Err(error) => {
                io.complain(&format!("{file}: {error}"))?;
                exit = Exit::Unusable;
            }
        }
    }
    for report in &reports {
        let is_bad = |finding: &Finding| args.strict || finding.severity == Severity::Error;
        exit = exit.max(match report {
            Report { malformed: true, .. } => Exit::Unusable,
            report if report.findings.iter().any(is_bad) => Exit::Mistakes,
            _ => Exit::Fine,
        });
        if report.filters.is_empty() && report.findings.is_empty() {
            io.note(&format!("{}: has none of our filters", report.file))?;
        }
    }
    match args.format {
        Format::Text => {
            for report in &reports {
                text(report, args.quiet, io)?;
            }
        }
        Format::Json => writeln!(io.out, "{:#}", json(&reports))?,
    }
    let nothing =
        reports.iter().all(|report| report.filters.is_empty() && report.findings.is_empty());
    if nothing && exit == Exit::Fine {
        io.complain(
            "nothing to check: name the filter with --filter if this is its configuration",
        )?;
        exit = Exit::Unusable;
    }
    Ok(exit)
}

fn text(report: &Report, quiet: bool, io: &mut Io<'_>) -> io::Result<()> {
    let file = &report.file;
    for Finding { at, severity, path, what } in &report.findings {
        let severity = io.paint(*severity == Severity::Error, severity.name());
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        writeln!(io.out, "{file}:{}:{}: {severity}: {path}{what}", at.line, at.column)?;
    }
    if quiet {
        return Ok(());
    }
    for Checked { at, protocol, told_by } in &report.filters {
        writeln!(
            io.out,
            "{file}:{}:{}: checked: {protocol} filter, by {told_by}",
            at.line, at.column
        )?;
    }
    if !report.filters.is_empty() {
        let count = |severity| {
            let n = report.findings.iter().filter(|finding| finding.severity == severity).count();
            format!("{n} {}{}", severity.name(), if n == 1 { "" } else { "s" })
        };
        writeln!(io.out, "{file}: {}, {}", count(Severity::Error), count(Severity::Warning))?;
    }
    Ok(())
}

fn json(reports: &[Report]) -> Value {
    let mut filters = Vec::new();
    let mut findings = Vec::new();
    for report in reports {
        let file = &report.file;
        filters.extend(report.filters.iter().map(|Checked { at, protocol, told_by }| {
            json!({
                "file": file, "line": at.line, "column": at.column,
                "filter": protocol.name(), "told_by": told_by,
            })
        }));
        findings.extend(report.findings.iter().map(|finding| finding.json(file)));
    }
    json!({ "filters": filters, "findings": findings })
}

/// Checks a file.
fn report(file: &str, text: &str, only: Option<Protocol>) -> Report {
    let mut filters = Vec::new();
    let mut findings = Findings::default();
    let yaml = match yaml::documents(text) {
        Ok(yaml) => yaml,
        Err(error) => {
            let what = error.to_string();
            let (at, path) = (error.at, String::new());
            let findings = vec![Finding { at, severity: Severity::Error, path, what }];
            return Report { file: file.to_owned(), filters, findings, malformed: true };
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    let roots: Vec<_> = yaml.documents.iter().map(Spot::root).collect();
    let mut whole = Found::default();
    for root in &roots {
        let found = find::find(root, dialect(root, text), only, &lines);
        let is_empty =
            found.filters.is_empty() && found.http_filters.is_empty() && found.inner.is_empty();
        if is_empty && let Some((protocol, told_by, spot)) = plain(root, file, only) {
            settings::of(protocol, spot, Dialect::Exact, &mut findings);
            filters.push(Checked { at: root.at, protocol, told_by });
        }
        if !found.filters.is_empty() && dialect(root, text) == Dialect::Envoy {
            merges(&yaml.merges, &mut findings);
        }
        join(&mut whole, found);
    }
    document(&whole, &lines, &mut filters, &mut findings);
    Report { file: file.to_owned(), filters, findings: findings.into_sorted(), malformed: false }
}

/// Who loads a document.
fn dialect(root: &Spot, text: &str) -> Dialect {
    let is_kubernetes = root.field("apiVersion").is_some();
    if is_kubernetes || text.trim_start().starts_with('{') {
        Dialect::Exact
    } else {
        Dialect::Envoy
    }
}

fn join(whole: &mut Found, part: Found) {
    whole.filters.extend(part.filters);
    whole.http_filters.extend(part.http_filters);
    whole.listeners.extend(part.listeners);
    whole.clusters.extend(part.clusters);
    whole.bootstraps.extend(part.bootstraps);
    whole.inner.extend(part.inner);
}

/// Checks what was found in a document, and in those that are in its texts.
fn document(found: &Found, lines: &[&str], checked: &mut Vec<Checked>, findings: &mut Findings) {
    for filter in &found.http_filters {
        let what = "has to be a network filter, in `filters` before the HTTP connection manager: the modules are no HTTP \
                    filters";
        findings.error(filter, what);
    }
    let settings: Vec<Settings> = found
        .filters
        .iter()
        .map(|filter| {
            let OurFilter { protocol, told_by, plugin, .. } = filter;
            // Several listeners may have the same filter, through an alias.
            if checked.iter().all(|known| known.at != plugin.at) {
                let told_by = told_by.clone();
                checked.push(Checked { at: plugin.at, protocol: *protocol, told_by });
            }
            settings::read(filter, lines, findings)
        })
        .collect();
    for (filter, settings) in found.filters.iter().zip(&settings) {
        around::check(filter, settings, found, findings);
    }
    tunnels::check(found, &settings, findings);
    for inner in &found.inner {
        if !inner.found.filters.is_empty() {
            merges(&inner.merges, findings);
        }
        document(&inner.found, lines, checked, findings);
    }
}

fn merges(places: &[Place], findings: &mut Findings) {
    for at in places {
        let what = "is a merge key, which Envoy's YAML does not know: write the fields out, or use an alias".to_owned();
        findings.push(Finding { at: *at, severity: Severity::Error, path: "<<".to_owned(), what });
    }
}

/// A filter's own configuration: for which filter, what told so, and where it is.
fn plain(root: &Spot, file: &str, only: Option<Protocol>) -> Option<(Protocol, String, Spot)> {
    let spot = match root.field("value") {
        Some(value) if is_type(root, "google.protobuf.Struct") => value,
        _ => root.clone(),
    };
    if !spot.node.is_map()
        || ["apiVersion", "static_resources", "resources", "@type"]
            .iter()
            .any(|name| spot.field(name).is_some())
    {
        return None;
    }
    if let Some(protocol) = only {
        return Some((protocol, "--filter".to_owned(), spot));
    }
    let json = spot.node.json(Dialect::Exact).to_string();
    let strangers = |protocol: Protocol| {
        let mistakes = protocol.mistakes(json.as_bytes());
        let is_stranger = |path: &str, what: &str| {
            !path.contains(['.', '[']) && what.starts_with("unknown field")
        };
        mistakes.iter().filter(|mistake| is_stranger(&mistake.path, &mistake.what)).count()
    };
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if let Some(protocol) = Protocol::named_in(stem)
        && strangers(protocol) < spot.node.entries().len()
    {
        return Some((protocol, format!("the file's name \"{stem}\""), spot));
    }
    let mut fitting = Protocol::ALL.into_iter().filter(|protocol| strangers(*protocol) == 0);
    let protocol = fitting.next().filter(|_| fitting.next().is_none())?;
    Some((protocol, "its fields".to_owned(), spot))
}

/// The configurations of one filter in a file.
pub(crate) fn configurations(
    file: &str,
    text: &str,
    protocol: Protocol,
) -> Result<Vec<Value>, String> {
    let yaml = yaml::documents(text)
        .map_err(|error| format!("{}:{}: {error}", error.at.line, error.at.column))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for document in &yaml.documents {
        let root = Spot::root(document);
        let found = find::find(&root, dialect(&root, text), None, &lines);
        collect(&found, protocol, &lines, &mut all);
        if all.is_empty()
            && let Some((_, _, spot)) = plain(&root, file, Some(protocol))
        {
            all.push(spot.node.json(Dialect::Exact));
        }
    }
    Ok(all)
}

fn collect(found: &Found, protocol: Protocol, lines: &[&str], all: &mut Vec<Value>) {
    for filter in found.filters.iter().filter(|filter| filter.protocol == protocol) {
        // Mistakes are found again, and said, by who uses it.
        let settings = settings::read(filter, lines, &mut Findings::default());
        if !all.contains(&settings.json) {
            all.push(settings.json);
        }
    }
    for inner in &found.inner {
        collect(&inner.found, protocol, lines, all);
    }
}

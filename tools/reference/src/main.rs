//! Writes `docs/reference`: for each filter the JSON Schema of its configuration and the same as a page to read, both
//! from the types that read the configuration. A test says whether what is there is what would be written.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use schemars::schema_for;
use serde_json::{Map, Value};

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let mut failed = false;
    for (name, text) in files() {
        let path = folder.join(&name);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if let Err(error) = write(&path, &text) {
            eprintln!("docs/reference/{name}: {error}");
            failed = true;
        } else {
            println!("docs/reference/{name}");
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Names and texts of all files.
fn files() -> Vec<(String, String)> {
    let filters = [
        ("coap", "CoAP", schema_for!(filter_coap::config::Config)),
        ("dns", "DNS", schema_for!(filter_dns::config::Config)),
        ("mqtt", "MQTT", schema_for!(filter_mqtt::config::Config)),
    ];
    let mut files = Vec::new();
    for (name, title, schema) in filters {
        let schema = schema.to_value();
        files.push((format!("{name}.md"), page(name, title, &schema)));
        // A value made of strings, numbers and maps can always be written.
        let json = serde_json::to_string_pretty(&schema).unwrap_or_default();
        files.push((format!("{name}.schema.json"), json + "\n"));
    }
    files
}

fn page(name: &str, title: &str, schema: &Value) -> String {
    let mut page = format!(
        "# {title} filter: configuration reference\n\n\
         <!-- Written by `make reference` from the types that read the configuration. -->\n\n\
         The value of the wasm filter's `configuration`, a `google.protobuf.Struct`. All fields but those marked \
         *required* are optional. The same as JSON Schema: [{name}.schema.json]({name}.schema.json).\n\n"
    );
    fields(&mut page, schema);
    let empty = Map::new();
    let types = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    for (name, of_type) in types {
        if is_plain(of_type) {
            continue;
        }
        let _ = write!(page, "\n## {}\n\n{}\n\n", readable(name), description(of_type));
        if of_type.get("properties").is_some() {
            fields(&mut page, of_type);
        } else {
            for variant in variants(of_type) {
                let value = variant.get("const").map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(page, "* `{}`: {}", value.trim_matches('"'), description(variant));
            }
        }
    }
    page
}

fn fields(page: &mut String, of_type: &Value) {
    page.push_str("| field | type | meaning |\n|---|---|---|\n");
    let required: Vec<&str> = of_type
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, field) in of_type.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        let mark = if required.contains(&name.as_str()) { ", *required*" } else { "" };
        let _ =
            writeln!(page, "| `{name}` | {}{mark} | {} |", type_name(field), description(field));
    }
}

/// A type that its name alone explains.
fn is_plain(of_type: &Value) -> bool {
    of_type.get("properties").is_none() && variants(of_type).is_empty()
}

fn variants(of_type: &Value) -> Vec<&Value> {
    let variants = of_type.get("oneOf").and_then(Value::as_array);
    variants.map(|list| list.iter().collect()).unwrap_or_default()
}

fn description(of: &Value) -> String {
    let text = of.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn type_name(field: &Value) -> String {
    if let Some(name) = field.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or(name);
        return match name {
            "Whole" => "whole number".to_owned(),
            "Seconds" => "duration, `10s` or `0.25s`".to_owned(),
            "Fraction" => "number".to_owned(),
            _ => {
                let readable = readable(name);
                format!("[{readable}](#{})", readable.to_lowercase().replace(' ', "-"))
            }
        };
    }
    if let Some(items) = field.get("items") {
        return format!("list of {}", type_name(items));
    }
    if let Some(any) = field.get("anyOf").and_then(Value::as_array)
        && let Some(first) = any.first()
    {
        return type_name(first);
    }
    let of = |kind: &str| match kind {
        "integer" => "whole number",
        "number" => "number",
        "boolean" => "`true` or `false`",
        "array" => "list",
        _ => "text",
    };
    match field.get("type") {
        Some(Value::String(kind)) => of(kind).to_owned(),
        Some(Value::Array(kinds)) => {
            let kind = kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null");
            of(kind.unwrap_or_default()).to_owned()
        }
        _ => "text".to_owned(),
    }
}

/// `RateLimitConfig` as `Rate limit`; `DTLS` stays as it is.
fn readable(name: &str) -> String {
    let mut readable = String::new();
    for letter in name.trim_end_matches("Config").chars() {
        if letter.is_uppercase() && readable.ends_with(char::is_lowercase) {
            readable.push(' ');
            readable.extend(letter.to_lowercase());
        } else {
            readable.push(letter);
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_explained() {
        for (name, text) in files() {
            assert!(!text.contains("|  |"), "{name} has a field without an explanation:\n{text}");
        }
    }

    #[test]
    fn every_link_leads_to_a_section() {
        for (name, text) in files().into_iter().filter(|(name, _)| name.ends_with(".md")) {
            let headings: Vec<String> = text
                .lines()
                .filter_map(|line| line.strip_prefix("## "))
                .map(|heading| heading.to_lowercase().replace(' ', "-"))
                .collect();
            for link in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
                assert!(headings.iter().any(|heading| heading == link), "{name}: #{link}");
            }
        }
    }

    #[test]
    fn what_is_committed_is_what_would_be_written() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
        for (name, text) in files() {
            let there = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert_eq!(there, text, "docs/reference/{name}: run `make reference`");
        }
    }
}

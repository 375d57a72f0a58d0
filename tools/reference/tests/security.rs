//! The pages about security say which test backs which claim: a test that was renamed, or a setting that is gone, has to be
//! noticed there. And every fuzz target is in the threat model.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// All text below a folder in files that end so.
fn text(folder: &Path, ending: &str) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" {
            all.push_str(&text(&path, ending));
        } else if name.ends_with(ending) {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    all
}

const PAGES: [&str; 3] = ["docs/security.md", "docs/threat-model.md", "docs/hostile-input.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_test_and_setting_that_the_security_model_names_exists() {
    let root = root();
    let code: String = ["filters", "integration/tests", "protocol-codecs"]
        .map(|folder| text(&root.join(folder), ".rs"))
        .concat();
    let settings =
        text(&root.join("docs/reference"), ".md") + &text(&root.join("envoy-configs"), ".yaml");
    let mut all = 0;
    for page in PAGES {
        let content = fs::read_to_string(root.join(page)).unwrap();
        // Every second piece is between backticks.
        let named = content.split('`').skip(1).step_by(2).filter(|name| {
            name.matches('_').count() > 1
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
        let (known, unknown): (Vec<_>, Vec<_>) = named
            .partition(|name| code.contains(&format!("fn {name}(")) || settings.contains(name));
        assert!(unknown.is_empty(), "{page} names what does not exist: {unknown:?}");
        all += known.len();
    }
    assert!(all > 130, "only {all} names were found");
}

/// The fuzz targets in a folder and those below it, by folder and name, and what is in their Cargo.toml.
fn targets(folder: &Path, found: &mut Vec<(String, String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() || name == "target" || name.starts_with('.') {
            continue;
        }
        if name != "fuzz_targets" {
            targets(&path, found);
            continue;
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let of = folder.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let of = of.strip_suffix("/fuzz").unwrap_or(&of).to_owned();
        for file in fs::read_dir(path).unwrap() {
            let target = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
            found.push((of.clone(), target, manifest.clone()));
        }
    }
}

#[test]
fn every_fuzz_target_is_built_and_is_in_the_threat_model() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let mut found = Vec::new();
    for folder in ["filters", "protocol-codecs", "fuzz"] {
        targets(&root().join(folder), &mut found);
    }
    assert!(found.len() > 30, "only {} targets were found", found.len());
    for (of, target, manifest) in found {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{of}: Cargo.toml without {target}"
        );
        // `filters/dns:udp`, or another one of the same and `tcp`, or all of them.
        let is_named = page.lines().any(|line| {
            line.contains(&format!("`{of}:*`"))
                || line.contains(&format!("`{of}:{target}`"))
                || (line.contains(&format!("`{of}:")) && line.contains(&format!("`{target}`")))
        });
        assert!(is_named, "docs/threat-model.md without {of}:{target}");
    }
}

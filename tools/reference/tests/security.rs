//! `docs/security.md` says which test backs which bound: a test that was renamed, or a setting that is gone, has to be
//! noticed there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::fs;
use std::path::Path;

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

#[test]
fn every_test_and_setting_that_the_security_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let code: String =
        ["filters", "integration/tests"].map(|folder| text(&root.join(folder), ".rs")).concat();
    let settings =
        text(&root.join("docs/reference"), ".md") + &text(&root.join("envoy-configs"), ".yaml");
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    // Every second piece is between backticks.
    let named = page.split('`').skip(1).step_by(2).filter(|name| {
        name.matches('_').count() > 1
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    });
    let (known, unknown): (Vec<_>, Vec<_>) =
        named.partition(|name| code.contains(&format!("fn {name}(")) || settings.contains(name));
    assert!(known.len() > 60, "only {} names were found", known.len());
    assert!(unknown.is_empty(), "docs/security.md names what does not exist: {unknown:?}");
}

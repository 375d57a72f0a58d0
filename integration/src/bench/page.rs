//! Results as a page in Markdown, with pictures.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::plot;
use super::results::{Results, Section};

/// What is between these lines of a page is written by [`update`].
const BEGIN: &str = "<!-- results: written by `make bench-page` -->";
const END: &str = "<!-- end of the results -->";

/// For the terminal: what it was measured on, and all tables.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut out = results.machine.list();
    for section in &results.sections {
        // Writing into a String cannot fail.
        let _ = write!(out, "\n{}:\n\n{}\n{}", section.title, reading(section), section.table());
    }
    out
}

/// For a page: the same, with pictures from the folder `images`, by the path that leads there from the page.
#[must_use]
pub fn sections(runs: &[Results], images: &str) -> String {
    let mut out = String::new();
    for results in runs {
        let quick = if results.quick { "; quick: short samples, three rounds at most" } else { "" };
        let _ = writeln!(out, "Run of {}{quick}:\n\n{}", results.started, results.machine.list());
        for section in &results.sections {
            let Section { title, name, .. } = section;
            let _ = writeln!(out, "### {title}\n");
            if plot::section(section).is_some() {
                let _ = writeln!(out, "![{title}]({images}/{name}.svg)\n");
            }
            let _ = writeln!(
                out,
                "<details><summary>The numbers</summary>\n\n{}\n{}\n</details>\n",
                reading(section),
                section.table()
            );
        }
    }
    out
}

/// What has to be known to read a table.
fn reading(section: &Section) -> String {
    let [before, after] = section.load_average;
    let mut out = format!(
        "- median [least–most] of the rounds, × = median of the ratios to {} in the same round\n- load average: {before} before, {after} after\n",
        section.base
    );
    for condition in &section.conditions {
        let _ = writeln!(out, "- {condition}");
    }
    out
}

/// Writes the pictures into this folder, each as `<name of the section>.svg`.
pub fn write_plots(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for section in &results.sections {
        if let Some(svg) = plot::section(section) {
            let path = folder.join(format!("{}.svg", section.name));
            fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// The page with these results between its two marks.
pub fn update(page: &str, runs: &[Results], images: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}\n\n{}{END}{after}", sections(runs, images)))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    #[test]
    fn a_page_keeps_what_is_around_the_results() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let updated = update(&page, &[example()], "images").unwrap();
        assert!(updated.starts_with("before\n") && updated.ends_with("\nafter\n"), "{updated}");
        assert!(!updated.contains("old"), "{updated}");
        assert!(updated.contains("![Requests & more](images/curve.svg)"), "{updated}");
        assert!(updated.contains("load average: 0.5 before, 1 after"), "{updated}");
        assert_eq!(update(&updated, &[example()], "images").unwrap(), updated);
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        assert!(update("text", &[example()], "images").is_err());
    }

    #[test]
    fn tables_come_after_what_they_were_measured_on() {
        let text = tables(&example());
        assert!(text.starts_with("- Example 1, 2 cores, 2048 MiB"), "{text}");
        assert!(text.contains("- one worker\n"), "{text}");
    }

    #[test]
    fn each_section_has_a_picture() {
        let folder = std::env::temp_dir().join(format!("bench-plots-{}", std::process::id()));
        write_plots(&example(), &folder).unwrap();
        for name in ["bars.svg", "curve.svg"] {
            assert!(fs::read_to_string(folder.join(name)).unwrap().ends_with("</svg>\n"));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

//! What `protocol-codecs/bench/run` measures: our codecs beside other crates.

use super::report::{Better, Report};

/// This project's codec among the contenders.
const OURS: &str = "ours";

/// The samples of one codec, from the lines `group, contender, nanoseconds` of each target, one for each round; none, if there
/// are no lines.
#[must_use]
pub fn report(codec: &str, native: &str, wasm: &str, conditions: &[&str]) -> Option<Report> {
    let targets = [("native", lines(native)), ("wasm", lines(wasm))];
    let mut sides = vec![OURS.to_owned()];
    let mut groups: Vec<&str> = Vec::new();
    for (group, contender, _) in targets.iter().flat_map(|(_, lines)| lines) {
        if !sides.iter().any(|side| side == contender) {
            sides.push((*contender).to_owned());
        }
        if !groups.contains(group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return None;
    }
    let title = format!("Codec: {codec}");
    let mut report =
        Report::of(&format!("codec-{codec}"), &title, sides, vec![OURS.to_owned()], OURS);
    for condition in conditions {
        report.condition(*condition);
    }
    for group in groups {
        for (target, lines) in &targets {
            for (_, contender, nanoseconds) in lines.iter().filter(|(of, ..)| *of == group) {
                let name = format!("{group}, {target}");
                report.add(&name, "ns", Better::Low, contender, *nanoseconds);
            }
        }
    }
    Some(report)
}

fn lines(text: &str) -> Vec<(&str, &str, f64)> {
    let line = |line| {
        let mut fields = str::split(line, '\t');
        Some((fields.next()?, fields.next()?, fields.next()?.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_become_samples_and_targets_rows() {
        let native = "decode\tours\t10\ndecode\tother\t30\ndecode\tours\t20\ndecode\tother\t20\n";
        let report = report("mqtt", native, "decode\tours\t40.5\n", &["c"]);
        let section = report.unwrap().finish().unwrap();
        assert_eq!(section.sides, ["ours", "other"]);
        let names: Vec<&str> = section.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["decode, native", "decode, wasm"]);
        let other = &section.rows[0].sides["other"];
        assert_eq!((other.samples.as_slice(), other.ratio), ([30.0, 20.0].as_slice(), Some(2.0)));
        assert_eq!(section.rows[1].sides["ours"].median, 40.5);
    }

    #[test]
    fn a_run_without_lines_is_none() {
        assert!(report("mqtt", "", "nonsense", &[]).is_none());
    }
}

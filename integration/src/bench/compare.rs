//! Two files of results, row by row.

use std::fmt::Write;

use super::results::{Better, Figure, Results, Row, Section, median, ratios, short, spread};

/// How many times as much the new samples are as the old ones.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    /// Of the medians.
    ratio: f64,
    /// At least: the least new one to the most old one.
    least: f64,
    /// At most.
    most: f64,
}

impl Change {
    /// None, where there is nothing to divide by.
    fn between(old: &[f64], new: &[f64]) -> Option<Self> {
        let ((old_least, old_most), (new_least, new_most)) = (spread(old), spread(new));
        let change = Self {
            ratio: median(new) / median(old),
            least: new_least / old_most,
            most: new_most / old_least,
        };
        [change.ratio, change.least, change.most]
            .iter()
            .all(|part| part.is_finite())
            .then_some(change)
    }

    /// Whether no new sample is like an old one. One sample has no spread: of that nothing can be said.
    fn is_outside(self, old: &[f64], new: &[f64]) -> bool {
        old.len() > 1 && new.len() > 1 && (self.least > 1.0 || self.most < 1.0)
    }
}

/// What is to be said about one row and side.
struct Cell {
    text: String,
    verdict: Option<bool>,
}

impl Cell {
    fn of(old: &[f64], new: &[f64], better: Better) -> Self {
        let Some(change) = Change::between(old, new) else {
            return Self { text: "–".into(), verdict: None };
        };
        let Change { ratio, least, most } = change;
        let verdict =
            change.is_outside(old, new).then_some((ratio > 1.0) == (better == Better::High));
        let mark = match verdict {
            Some(true) => " **better**",
            Some(false) => " **worse**",
            None => "",
        };
        Self { text: format!("×{ratio:.2} [{least:.2}–{most:.2}]{mark}"), verdict }
    }
}

/// The comparison, as a page in Markdown.
#[must_use]
pub fn compare(old: &Results, new: &Results) -> String {
    let mut tables = String::new();
    let (mut rows, mut better, mut worse) = (0, 0, 0);
    for section in &new.sections {
        let Some(before) = old.sections.iter().find(|before| before.name == section.name) else {
            continue;
        };
        let mut table = String::new();
        for row in &section.rows {
            let is_same = |before: &&Row| {
                before.name == row.name && before.at == row.at && before.unit == row.unit
            };
            let Some(row_before) = before.rows.iter().find(is_same) else { continue };
            for side in &section.sides {
                let figures = row_before.sides.get(side).zip(row.sides.get(side));
                let Some((figure_before, figure)) = figures else { continue };
                let absolute = Cell::of(&figure_before.samples, &figure.samples, row.better);
                let relative = relative((before, row_before), (section, row), side);
                for verdict in [&absolute, &relative].into_iter().filter_map(|cell| cell.verdict) {
                    if verdict { better += 1 } else { worse += 1 }
                }
                rows += 1;
                // Writing into a String cannot fail.
                let _ = writeln!(
                    table,
                    "| {}, {} | {side} | {} | {} | {} | {} |",
                    section.label(row),
                    row.unit,
                    short(figure_before.median),
                    short(figure.median),
                    absolute.text,
                    relative.text,
                );
            }
        }
        if !table.is_empty() {
            let _ = write!(
                tables,
                "\n## {}\n\n| | side | old | new | new/old | of the ratio to {} |\n|---|---|---|---|---|---|\n{table}",
                section.title, section.base
            );
        }
    }
    format!(
        "# Two runs compared\n\n| | commit | started | CPU | load average |\n|---|---|---|---|---|\n{}{}\n\
        new/old is the ratio of the medians, and in brackets the least new sample to the most old one, and the most to the least. \
        *better* and *worse* mark what lies outside the spread: no sample of one run is among those of the other. \
        The last column is the same for the ratio to the base in the same round, which stands a machine that is slower today.\n\n\
        {rows} figures in both, outside the spread: {better} better, {worse} worse.\n{tables}",
        run("old", old),
        run("new", new),
    )
}

/// The change of the ratio to the base, which is none for the base itself.
fn relative(
    (before, row_before): (&Section, &Row),
    (section, row): (&Section, &Row),
    side: &str,
) -> Cell {
    let to_base = |section: &Section, row: &Row| {
        let base: &Figure = row.sides.get(&section.base).filter(|_| *side != section.base)?;
        let ratios = ratios(&row.sides.get(side)?.samples, &base.samples);
        ratios.iter().all(|ratio| ratio.is_finite()).then_some(ratios)
    };
    match to_base(before, row_before).zip(to_base(section, row)) {
        Some((old, new)) if before.base == section.base => Cell::of(&old, &new, row.better),
        _ => Cell { text: "–".into(), verdict: None },
    }
}

fn run(name: &str, results: &Results) -> String {
    let machine = &results.machine;
    let [load, ..] = machine.load_average;
    format!(
        "| {name} | {} | {} | {}, {} cores | {load} |\n",
        machine.commit, results.started, machine.cpu, machine.cores
    )
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    #[test]
    fn a_run_compared_with_itself_has_not_changed() {
        let page = compare(&example(), &example());
        assert!(page.contains("outside the spread: 0 better, 0 worse"), "{page}");
        assert!(
            page.contains(
                "| requests, 1/s | filter | 900 | 900 | ×1.00 [0.60–1.67] | ×1.00 [0.50–2.00] |"
            ),
            "{page}"
        );
        // Of nothing to nothing there is no ratio.
        assert!(page.contains("| unanswered, 1/s | filter | 0 | 0 | – | – |"), "{page}");
    }

    #[test]
    fn what_lies_outside_the_spread_is_marked() {
        let mut new = example();
        for sample in &mut new.sections[0].rows[0].sides.get_mut("filter").unwrap().samples {
            *sample *= 10.0;
        }
        for row in &mut new.sections[1].rows {
            for sample in &mut row.sides.get_mut("filter").unwrap().samples {
                *sample /= 10.0;
            }
        }
        new.sections[0].compute();
        new.sections[1].compute();
        let page = compare(&example(), &new);
        assert!(
            page.contains("| requests, 1/s | filter | 900 | 9,000 | ×10.00 [6.00–16.67] **better** | ×10.00 [5.00–20.00] **better** |"),
            "{page}"
        );
        // Three points of the curve, absolute and to the base.
        assert!(page.contains("outside the spread: 2 better, 6 worse"), "{page}");
    }

    #[test]
    fn nothing_is_said_about_a_single_sample() {
        let (mut old, mut new) = (example(), example());
        for (results, sample) in [(&mut old, 1.0), (&mut new, 9.0)] {
            results.sections[0].rows[0].sides.get_mut("filter").unwrap().samples = vec![sample];
            results.sections[0].compute();
        }
        assert!(compare(&old, &new).contains("outside the spread: 0 better, 0 worse"));
    }

    #[test]
    fn what_only_one_of_them_has_is_left_out() {
        let mut old = example();
        old.sections[0].rows.clear();
        old.sections[1].name = "other".into();
        assert!(compare(&old, &example()).contains("0 figures in both"));
    }
}

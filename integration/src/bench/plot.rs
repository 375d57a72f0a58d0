//! Pictures of a section, as SVG: bars for what was measured once, curves for what was measured over a number.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::results::{Better, Figure, Row, Section, short, spread, times};

/// Of one panel; two of them stand side by side.
const WIDTH: f64 = 480.0;
const MARGIN: f64 = 10.0;

/// Where a panel's bars begin and how long the longest may be; what is right of that is for their values.
const BARS: f64 = 118.0;
const LONGEST: f64 = 232.0;
const BAR: f64 = 18.0;

/// Where a panel's curves are.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 460.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 196.0;

const STYLE: &str = "text{fill:#1c2230}.dim{fill:#545d70;font-size:11px}.head{font-weight:600}\
.grid{stroke:#dfe3ea}.axis{stroke:#5b6478}.spread{stroke:#1c2230}.line{fill:none;stroke-width:2}";

/// Colours of sides with our code, of the base, and of the others.
const OURS: [&str; 4] = ["#1d5fbf", "#1b7a43", "#a15c00", "#7a3fa0"];
const BASE: &str = "#5b6478";
const OTHERS: &str = "#b0b7c6";

/// A picture of all its rows; none, if there is nothing to be seen in any of them.
#[must_use]
pub fn section(section: &Section) -> Option<String> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut drawn = BTreeSet::new();
    for row in section.rows.iter().filter(|row| is_worth_seeing(row)) {
        if row.at.is_none() {
            // A bar alone says no more than its number.
            if row.sides.len() > 1 {
                panels.push(bars(section, row));
            }
        } else if drawn.insert(&row.name) {
            panels.push(curves(section, row));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let (mut body, mut y) = (String::new(), MARGIN);
    for pair in panels.chunks(2) {
        for (panel, x) in pair.iter().zip([MARGIN, MARGIN + WIDTH]) {
            // Writing into a String cannot fail.
            let _ = writeln!(body, "<g transform=\"translate({x} {y})\">\n{}</g>", panel.body);
        }
        y += pair.iter().map(|panel| panel.height).fold(0.0, f64::max);
    }
    let (width, height) = (2.0 * (WIDTH + MARGIN), y + MARGIN);
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        escaped(&section.title)
    ))
}

/// Not that nothing was lost, again and again.
fn is_worth_seeing(row: &Row) -> bool {
    row.sides.values().any(|figure| figure.most > 0.0)
}

struct Panel {
    height: f64,
    body: String,
}

impl Panel {
    fn of(row: &Row) -> Self {
        let better = match row.better {
            Better::High => "more is better",
            Better::Low => "less is better",
        };
        let mut panel = Self { height: 0.0, body: String::new() };
        panel.text(0.0, 16.0, "head", "start", &format!("{}, {}", row.name, row.unit));
        panel.text(WIDTH - 20.0, 16.0, "dim", "end", better);
        panel
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ =
            writeln!(self.body, "<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
    }
}

/// A bar for each side, with its spread.
fn bars(section: &Section, row: &Row) -> Panel {
    let mut panel = Panel::of(row);
    let sides: Vec<(&String, &Figure)> =
        section.sides.iter().filter_map(|side| Some((side, row.sides.get(side)?))).collect();
    let most = sides.iter().map(|(_, figure)| figure.most).fold(0.0, f64::max);
    let (step, end) = axis(most);
    let x = |value: f64| BARS + LONGEST * value / end;
    let bottom = 28.0 + BAR * float(sides.len());
    for tick in ticks(step, end) {
        panel.line("grid", (x(tick), 26.0), (x(tick), bottom));
        panel.text(x(tick), bottom + 14.0, "dim", "middle", &short(tick));
    }
    for (index, (side, figure)) in sides.into_iter().enumerate() {
        let top = 28.0 + BAR * float(index);
        let middle = top + BAR / 2.0;
        panel.text(BARS - 8.0, middle + 4.0, "", "end", side);
        let fill = match side {
            side if section.is_ours(side) => OURS[0],
            side if *side == section.base => BASE,
            _ => OTHERS,
        };
        let (y, width, height) = (top + 3.0, x(figure.median) - BARS, BAR - 6.0);
        let _ = writeln!(
            panel.body,
            "<rect x=\"{BARS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
        );
        panel.line("spread", (x(figure.least), middle), (x(figure.most), middle));
        let ratio = figure.ratio.map_or(String::new(), |ratio| format!(" {}", times(ratio)));
        let value = format!("{}{ratio}", short(figure.median));
        panel.text(x(figure.most) + 6.0, middle + 4.0, "dim", "start", &value);
    }
    panel.line("axis", (BARS, 26.0), (BARS, bottom));
    panel.height = bottom + 34.0;
    panel
}

/// A curve for each side over all rows of this name.
fn curves(section: &Section, first: &Row) -> Panel {
    let mut panel = Panel::of(first);
    let points: Vec<(f64, &Row)> = section
        .rows
        .iter()
        .filter(|row| row.name == first.name)
        .filter_map(|row| Some((row.at?, row)))
        .collect();
    let numbers: Vec<f64> = points.iter().map(|(at, _)| *at).collect();
    let (least, most) = spread(&numbers);
    let is_wide = least > 0.0 && most / least >= 50.0;
    let place = |at: f64| if is_wide { at.ln() } else { at };
    let width = (place(most) - place(least)).max(f64::MIN_POSITIVE);
    let x = |at: f64| LEFT + 12.0 + (RIGHT - LEFT - 24.0) * (place(at) - place(least)) / width;
    let highest = points.iter().flat_map(|(_, row)| row.sides.values()).map(|figure| figure.most);
    let (step, end) = axis(highest.fold(0.0, f64::max));
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / end;

    for tick in ticks(step, end) {
        panel.line("grid", (LEFT, y(tick)), (RIGHT, y(tick)));
        panel.text(LEFT - 6.0, y(tick) + 4.0, "dim", "end", &short(tick));
    }
    // Not so many that they touch one another.
    for at in numbers.iter().step_by(numbers.len().div_ceil(10)) {
        panel.text(x(*at), BOTTOM + 15.0, "dim", "middle", &short(*at));
    }
    panel.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    let name = section.axis.as_deref().unwrap_or_default();
    panel.text((LEFT + RIGHT) / 2.0, BOTTOM + 30.0, "dim", "middle", name);

    let mut legend = LEFT;
    let mut ours = OURS.iter().cycle();
    for side in &section.sides {
        let line: Vec<(f64, &Figure)> =
            points.iter().filter_map(|(at, row)| Some((*at, row.sides.get(side)?))).collect();
        if line.is_empty() {
            continue;
        }
        let colour = match section.is_ours(side) {
            true => ours.next().copied().unwrap_or(BASE),
            false if *side == section.base => BASE,
            false => OTHERS,
        };
        let _ = writeln!(panel.body, "<g stroke=\"{colour}\" fill=\"{colour}\">");
        let mut path = String::new();
        for (index, (at, figure)) in line.into_iter().enumerate() {
            let (x, y_median) = (x(at), y(figure.median));
            let start = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{start}{x:.1} {y_median:.1}");
            let _ = writeln!(
                panel.body,
                "<circle cx=\"{x:.1}\" cy=\"{y_median:.1}\" r=\"3\" stroke=\"none\"/>"
            );
            panel.line("", (x, y(figure.least)), (x, y(figure.most)));
        }
        let _ = writeln!(panel.body, "<path class=\"line\" d=\"{path}\"/>");
        let _ = writeln!(
            panel.body,
            "<rect x=\"{legend:.1}\" y=\"26\" width=\"10\" height=\"10\"/>\n</g>"
        );
        panel.text(legend + 14.0, 35.0, "dim", "start", side);
        legend += 30.0 + 7.0 * float(side.chars().count());
    }
    panel.height = BOTTOM + 46.0;
    panel
}

/// The distance of an axis's ticks, and its end, for values up to this.
fn axis(most: f64) -> (f64, f64) {
    if most <= 0.0 {
        return (1.0, 1.0);
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    let step = factor * power;
    (step, step * (most / step).ceil())
}

fn ticks(step: f64, end: f64) -> impl Iterator<Item = f64> {
    (0_u32..)
        .map(move |number| f64::from(number) * step)
        .take_while(move |tick| *tick <= end + step / 2.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn float(number: usize) -> f64 {
    super::float(number as u64)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    #[test]
    fn a_section_of_bars_has_a_panel_for_each_row_that_says_something() {
        let svg = section(&example().sections[0]).unwrap();
        assert!(svg.contains("<title>Requests &amp; more</title>"), "{svg}");
        assert!(svg.contains(">requests, 1/s<") && svg.contains(">more is better<"), "{svg}");
        assert!(svg.contains(">900 ×0.50<"), "{svg}");
        // All of it is 0.
        assert!(!svg.contains("unanswered"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
    }

    #[test]
    fn a_section_of_curves_has_one_panel_for_each_name() {
        let svg = section(&example().sections[1]).unwrap();
        assert_eq!(svg.matches("class=\"line\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 6, "{svg}");
        assert_eq!(svg.matches(">cost, 1/s<").count(), 1, "{svg}");
        assert!(svg.contains(">10,000<") && svg.contains(">connections<"), "{svg}");
    }

    #[test]
    fn a_section_in_which_nothing_happened_has_no_picture() {
        let mut example = example().sections.remove(0);
        example.rows.remove(0);
        assert_eq!(section(&example), None);
    }

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        let axes = [3000.0, 0.9, 101_907.0, 1.0, 0.0].map(axis);
        let expected =
            [(1000.0, 3000.0), (0.5, 1.0), (50_000.0, 150_000.0), (0.5, 1.0), (1.0, 1.0)];
        for ((step, end), (expected_step, expected_end)) in axes.into_iter().zip(expected) {
            assert!((step - expected_step).abs() < 1e-9 && (end - expected_end).abs() < 1e-9);
        }
        assert_eq!(ticks(0.5, 1.0).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
    }
}

//! The samples as a picture.

use std::fmt::Write;

use crate::PROTOCOLS;
use crate::sample::Sample;

const WIDTH: f64 = 980.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

struct Series {
    name: String,
    class: &'static str,
    values: Vec<f64>,
}

struct Panel {
    title: &'static str,
    series: Vec<Series>,
}

fn series(
    name: &str,
    class: &'static str,
    samples: &[Sample],
    of: impl Fn(&Sample) -> f64,
) -> Series {
    Series { name: name.to_owned(), class, values: samples.iter().map(of).collect() }
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    const COLOURS: [&str; 3] = ["a", "b", "c"];
    let by_protocol = |of: fn(&crate::sample::Activity) -> f64| {
        let each = PROTOCOLS.iter().zip(COLOURS).enumerate();
        each.map(|(n, (protocol, class))| {
            series(protocol, class, samples, |sample| sample.activities.get(n).map_or(0.0, of))
        })
        .collect()
    };
    let by_envoy = |of: fn(&crate::sample::Proxy) -> f64| {
        let each = PROTOCOLS.iter().zip(COLOURS).enumerate();
        each.map(|(n, (protocol, class))| {
            series(protocol, class, samples, |sample| sample.envoys.get(n).map_or(0.0, of))
        })
        .collect::<Vec<_>>()
    };
    let mut cpu = by_envoy(|it| it.cpu_percent);
    cpu.push(series("clients, DNS server", "d", samples, |it| it.own_cpu_percent));
    vec![
        Panel {
            title: "resident memory, MiB",
            series: by_envoy(|it| float(it.resident_kib) / 1024.0),
        },
        Panel {
            title: "memory by Envoy's allocator, MiB",
            series: by_envoy(|it| float(it.allocated) / 1_048_576.0),
        },
        Panel { title: "file descriptors", series: by_envoy(|it| float(it.descriptors)) },
        Panel { title: "latency, median, ms", series: by_protocol(|it| it.p50 / 1000.0) },
        Panel { title: "latency, p99, ms", series: by_protocol(|it| it.p99 / 1000.0) },
        Panel {
            title: "exchanges in each period",
            series: by_protocol(|it| float(it.counts.answered)),
        },
        Panel { title: "CPU, percent of one core", series: cpu },
        Panel {
            title: "load average of the machine, which others use, too",
            series: vec![series("load average", "a", samples, |it| it.load_average)],
        },
    ]
}

pub(crate) fn draw(samples: &[Sample]) -> String {
    let panels = panels(samples);
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let height = PANEL * panels.len() as f64 + 10.0;
    let end = samples.last().map_or(1.0, |sample| sample.at);
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="t" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13">
  <title id="t">An Envoy for each protocol under load for {:.0} minutes: memory, descriptors, latency, rate and CPU over time</title>
  <style>
    .back {{ fill: #ffffff }} text {{ fill: #1c2230 }} .dim {{ fill: #545d70; font-size: 11px }} .head {{ font-weight: 600 }}
    .grid {{ stroke: #d5d9e2; stroke-width: 1 }} .line {{ fill: none; stroke-width: 1.5; stroke-linejoin: round }}
    .a {{ stroke: #1d5fbf }} .b {{ stroke: #a15c00 }} .c {{ stroke: #1b7a43 }} .d {{ stroke: #545d70 }}
    @media (prefers-color-scheme: dark) {{
      .back {{ fill: #0f131b }} text {{ fill: #e6e9f0 }} .dim {{ fill: #aeb6c6 }} .grid {{ stroke: #2c3446 }}
      .a {{ stroke: #7db0ff }} .b {{ stroke: #f0b35a }} .c {{ stroke: #6fd39a }} .d {{ stroke: #aeb6c6 }}
    }}
  </style>
  <rect class="back" width="{WIDTH}" height="{height}" rx="10"/>
"#,
        end / 60.0
    );
    let mut top = 0.0;
    for panel in &panels {
        draw_panel(&mut out, panel, samples, end, top);
        top += PANEL;
    }
    out.push_str("</svg>\n");
    out
}

// Writing into a String cannot fail.
fn draw_panel(out: &mut String, panel: &Panel, samples: &[Sample], end: f64, top: f64) {
    let highest =
        panel.series.iter().flat_map(|series| &series.values).copied().fold(0.0, f64::max);
    let most = round_up(highest);
    let (width, height) = (WIDTH - LEFT - RIGHT, PANEL - TOP - BOTTOM);
    let base = top + TOP + height;
    let _ = writeln!(
        out,
        r#"  <text class="head" x="{LEFT}" y="{:.1}">{}</text>"#,
        top + 24.0,
        panel.title
    );
    for part in 0..=2 {
        let value = most * f64::from(part) / 2.0;
        let y = base - height * f64::from(part) / 2.0;
        let _ = writeln!(out, r#"  <path class="grid" d="M{LEFT} {y:.1}h{width}"/>"#);
        let _ = writeln!(
            out,
            r#"  <text class="dim" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + 4.0,
            short(value)
        );
    }
    for part in 0..=6 {
        let x = LEFT + width * f64::from(part) / 6.0;
        let minutes = end * f64::from(part) / 360.0;
        let unit = if part == 6 { " min" } else { "" };
        let _ = writeln!(
            out,
            r#"  <text class="dim" x="{x:.1}" y="{:.1}" text-anchor="middle">{}{unit}</text>"#,
            base + 16.0,
            if end > 600.0 { format!("{minutes:.0}") } else { short(minutes) }
        );
    }
    let mut row = top + TOP + 10.0;
    for series in &panel.series {
        let mut path = String::new();
        for (sample, value) in samples.iter().zip(&series.values) {
            let x = LEFT + width * sample.at / end;
            let y = base - height * value / most;
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        }
        let _ = writeln!(out, r#"  <path class="line {}" d="{path}"/>"#, series.class);
        let x = WIDTH - RIGHT + 14.0;
        let _ = writeln!(
            out,
            r#"  <path class="line {}" d="M{x} {:.1}h20"/>"#,
            series.class,
            row - 4.0
        );
        let _ = writeln!(out, r#"  <text x="{}" y="{row:.1}">{}</text>"#, x + 26.0, series.name);
        row += 20.0;
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let mut step = 0.001;
    while step < 1e15 {
        for factor in [1.0, 2.0, 5.0] {
            if step * factor >= value {
                return step * factor;
            }
        }
        step *= 10.0;
    }
    step
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

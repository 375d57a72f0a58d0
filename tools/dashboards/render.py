#!/usr/bin/env python3
"""Draws dashboards as PNG files with what a Prometheus has: for the documentation, where no Grafana runs.

Usage: render.py [--prometheus URL] [--minutes 60] [--end UNIX_TIME] [--var NAME=REGEX]… [--out FOLDER] DASHBOARD.json…

It reads the same JSON as Grafana, and knows the panels that these dashboards have. Colours and fonts are its own.
"""

import argparse
import json
import math
import pathlib
import textwrap
import time
import urllib.parse
import urllib.request

import matplotlib
from PIL import Image

matplotlib.use("Agg")
import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

INCHES = 0.66  # of a grid column
ROW_INCHES = 0.32  # of a grid row
BACKGROUND, PANEL, TEXT, FAINT, GRID = "#111217", "#1a1b20", "#d8d9da", "#8e8f99", "#2c2e35"
COLOURS = (
    "#73bf69 #f2cc0c #5794f2 #ff9830 #f2495c #b877d9 #8ab8ff #ffa6b0 #96d98d #fade2a #ca95e5 #37872d #e02f44".split()
)
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
UNITS = {"cps": "/s", "reqps": " req/s", "s": " s", "short": ""}
plt.rcParams |= {"font.family": "DejaVu Sans", "font.size": 7, "text.color": TEXT, "axes.facecolor": PANEL}


def shown(value, unit):
    """A number as Grafana would write it, near enough."""
    if value is None or math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "µs":
        for size, name in ((1e6, " s"), (1e3, " ms")):
            if abs(value) >= size:
                return f"{value / size:.3g}{name}"
        return f"{value:.3g} µs"
    if unit in ("bytes", "Bps"):
        step, names, tail = (
            (1024, ["B", "KiB", "MiB", "GiB"], "") if unit == "bytes" else (1000, ["B", "kB", "MB", "GB"], "/s")
        )
        index = min(int(math.log(max(abs(value), 1), step)), 3)
        return f"{value / step**index:.3g} {names[index]}{tail}"
    for size, name in ((1e6, " Mil"), (1e4, " K")):
        if abs(value) >= size:
            return f"{value / (size if size > 1e4 else 1e3):.3g}{name}{UNITS.get(unit, '')}"
    return f"{value:.4g}{UNITS.get(unit, '')}"


class Prometheus:
    def __init__(self, url, minutes, end, variables, scrape=15):
        self.url, self.end, self.range = url, end, minutes * 60
        self.step = max(scrape, int(self.range / 240))
        self.variables = variables | {
            "__rate_interval": f"{max(self.step + scrape, 4 * scrape)}s",
            "__range": f"{int(self.range)}s",
        }

    def _get(self, path, **parameters):
        # The longest names first: $__range is not a part of another.
        for name in sorted(self.variables, key=len, reverse=True):
            parameters["query"] = parameters["query"].replace(f"${name}", self.variables[name])
        data = urllib.parse.urlencode(parameters).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", data) as answer:
            return json.load(answer)["data"]["result"]

    def over_time(self, query):
        """Lists of times and values, by labels."""
        result = self._get("query_range", query=query, start=self.end - self.range, end=self.end, step=self.step)
        return [
            (
                series["metric"],
                [point[0] for point in series["values"]],
                [float(point[1]) for point in series["values"]],
            )
            for series in result
        ]

    def now(self, query):
        return [
            (series["metric"], float(series["value"][1])) for series in self._get("query", query=query, time=self.end)
        ]


def legend(target, labels):
    text = target.get("legendFormat") or ""
    for name in {part.split("}}")[0] for part in text.split("{{")[1:]}:
        text = text.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return text


class Page:
    """One dashboard on one figure."""

    def __init__(self, dashboard, prometheus):
        self.dashboard, self.prometheus = dashboard, prometheus
        self.columns, self.rows = (
            24,
            max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 2,
        )
        self.figure = plt.figure(figsize=(self.columns * INCHES, self.rows * ROW_INCHES), facecolor=BACKGROUND)

    def box(self, position, left=0.0, top=0.0, right=0.0, bottom=0.0):
        """Where a part of a panel is in the figure; margins are in grid rows and columns."""
        x, width = position["x"] + left, position["w"] - left - right
        y, height = position["y"] + 2 + top, position["h"] - top - bottom
        return [x / self.columns, 1 - (y + height) / self.rows, width / self.columns, height / self.rows]

    def text(self, position, x, y, text, **style):
        left, bottom, _, height = self.box(position)
        self.figure.text(left + x / self.columns, bottom + height - y / self.rows, text, va="top", **style)

    def draw(self):
        head = {"x": 0, "y": -2, "w": 24, "h": 2}
        self.text(head, 0.15, 0.3, self.dashboard["title"], fontsize=13, weight="bold")
        chosen = "   ".join(
            f"{name} = {value}" for name, value in self.prometheus.variables.items() if not name.startswith("__")
        )
        self.text(head, 0.15, 1.25, f"the last {self.prometheus.range / 60:.0f} minutes   {chosen}", color=FAINT)
        for panel in self.dashboard["panels"]:
            position = panel["gridPos"]
            if panel["type"] == "row":
                self.text(position, 0.15, 0.25, f"▾ {panel['title']}", fontsize=9, weight="bold")
                continue
            x, y, width, height = self.box(position, 0.05, 0.1, 0.05, 0.1)
            self.figure.patches.append(
                Rectangle(
                    (x, y),
                    width,
                    height,
                    transform=self.figure.transFigure,
                    facecolor=PANEL,
                    edgecolor=GRID,
                    lw=0.5,
                    zorder=-1,
                )
            )
            self.text(position, 0.2, 0.35, panel["title"], fontsize=8, weight="bold")
            getattr(self, f"draw_{panel['type']}")(panel, position)

    def axes(self, position, **margins):
        axes = self.figure.add_axes(self.box(position, **margins))
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(colors=FAINT, length=0, labelsize=6)
        return axes

    def time_axis(self, axes):
        end, start = self.prometheus.end, self.prometheus.end - self.prometheus.range
        axes.set_xlim(start / 86400, end / 86400)
        axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(maxticks=7))
        axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))

    def draw_timeseries(self, panel, position):
        defaults = panel["fieldConfig"]["defaults"]
        unit, custom = defaults.get("unit", "short"), defaults["custom"]
        series = [
            (legend(target, labels), times, values)
            for target in panel["targets"]
            for labels, times, values in self.prometheus.over_time(target["expr"])
        ]
        if not series:
            self.text(
                position, position["w"] / 2 - 0.8, position["h"] / 2, defaults.get("noValue", "No data"), color=FAINT
            )
            return
        # Where the legend is, and how many lines of it fit.
        beside = panel["options"]["legend"]["placement"] == "right"
        fit = min(len(series), int((position["h"] - 1.8) / 0.6) if beside else 4)
        left, top = (position["w"] * 0.58 + 0.2, 0.95) if beside else (0.3, position["h"] - 1.2 - fit * 0.6)
        right, bottom = (position["w"] * 0.42, 1.0) if beside else (0.3, 2.1 + fit * 0.6)
        axes = self.axes(position, left=1.1, top=1.4, right=right, bottom=bottom)
        axes.grid(color=GRID, lw=0.5)
        below = {}
        for index, (_, times, values) in enumerate(series):
            colour = COLOURS[index % len(COLOURS)]
            bases = [below.get(at, 0) if "stacking" in custom else 0 for at in times]
            values = [value + base for value, base in zip(values, bases)]
            below |= dict(zip(times, values))
            # A gap is one in the picture, too.
            days, drawn, floor, last = [], [], [], None
            for at, value, base in zip(times, values, bases):
                if last is not None and at - last > max(60, 2 * self.prometheus.step):
                    days.append(at / 86400)
                    drawn.append(math.nan)
                    floor.append(base)
                days.append(at / 86400)
                drawn.append(value)
                floor.append(base)
                last = at
            # A line of few points would hardly be seen.
            axes.plot(days, drawn, color=colour, lw=1, zorder=100 - index, marker="." if len(values) < 5 else "")
            axes.fill_between(
                days, floor, drawn, color=colour, alpha=custom["fillOpacity"] / 100, lw=0, zorder=50 - index
            )
        for step in defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is not None:
                axes.axhline(step["value"], color=NAMED[step["color"]], lw=0.8, ls="--")
        self.time_axis(axes)
        axes.set_ylim(bottom=0, top=defaults.get("max", None))
        if "max" not in defaults and axes.get_ylim()[1] < 1e-9:
            axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
        room = position["w"] - left - 0.2
        for x, name in ((room - 1.25, "last"), (room - 0.1, "max")):
            self.text(position, left + x, top, name, color=FAINT, fontsize=6, ha="right")
        rows = sorted(enumerate(series), key=lambda row: -max(row[1][2]))
        for line, (index, (name, _, values)) in enumerate(rows[:fit]):
            y = top + 0.55 + line * 0.6
            self.text(position, left, y, "■", color=COLOURS[index % len(COLOURS)], fontsize=7)
            widest = int((room - 2.5) * 12.5)
            name = name if len(name) <= widest else name[: widest - 1] + "…"
            self.text(position, left + 0.3, y, name, fontsize=6)
            for x, value in ((room - 1.25, values[-1]), (room - 0.1, max(values))):
                self.text(position, left + x, y, shown(value, unit), fontsize=6, ha="right")
        if len(rows) > fit:
            self.text(position, left, top, f"of {len(rows)} the {fit} largest", fontsize=6, color=FAINT)

    def draw_stat(self, panel, position):
        defaults = panel["fieldConfig"]["defaults"]
        found = self.prometheus.over_time(panel["targets"][0]["expr"])
        if not found:
            self.text(position, 0.3, 1.5, defaults.get("noValue", "No data"), fontsize=18, color=FAINT)
            return
        _, times, values = found[0]
        colour = NAMED[defaults.get("color", {}).get("fixedColor", "green")]
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and values[-1] >= step["value"]:
                colour = NAMED[step["color"]]
        self.text(
            position,
            0.3,
            1.2,
            shown(values[-1], defaults.get("unit", "short")),
            fontsize=18,
            weight="bold",
            color=colour,
        )
        axes = self.axes(position, left=0.1, top=2.4, right=0.1, bottom=0.15)
        axes.set_axis_off()
        axes.plot(times, values, color=colour, lw=0.8)
        axes.fill_between(times, values, color=colour, alpha=0.2, lw=0)
        axes.set_xlim(self.prometheus.end - self.prometheus.range, self.prometheus.end)
        axes.set_ylim(bottom=0)

    def draw_bargauge(self, panel, position):
        unit = panel["fieldConfig"]["defaults"].get("unit", "short")
        values = sorted(
            (value, legend(target, labels))
            for target in panel["targets"]
            for labels, value in self.prometheus.now(target["expr"])
        )
        if not values:
            self.text(position, position["w"] / 2 - 0.8, position["h"] / 2, "none", color=FAINT)
            return
        values = values[-int((position["h"] - 1.6) / 0.65) :]
        axes = self.axes(position, left=position["w"] * 0.55, top=1.4, right=1.2, bottom=0.4)
        axes.barh(range(len(values)), [value for value, _ in values], color=NAMED["blue"], height=0.65)
        axes.set_yticks(range(len(values)), [textwrap.shorten(name, 46) for _, name in values], color=TEXT)
        axes.set_xticks([])
        axes.set_ylim(len(values) - max(len(values), 5) - 0.5, len(values) - 0.5)
        for index, (value, _) in enumerate(values):
            axes.text(value, index, f" {shown(round(value), unit)}", va="center", fontsize=6)

    def draw_heatmap(self, panel, position):
        found = self.prometheus.over_time(panel["targets"][0]["expr"])
        if not found:
            self.text(position, position["w"] / 2 - 0.8, position["h"] / 2, "nothing yet", color=FAINT)
            return
        unit = panel["options"]["yAxis"]["unit"]
        counts = {
            float(labels["le"].replace("+Inf", "inf")): dict(zip(times, values)) for labels, times, values in found
        }
        bounds = sorted(counts)
        times = sorted({at for values in counts.values() for at in values})
        below = [{}] + [counts[bound] for bound in bounds]
        grid = [
            [max(0, counts[bound].get(at, 0) - below[index].get(at, 0)) for at in times]
            for index, bound in enumerate(bounds)
        ]
        used = [index for index, row in enumerate(grid) if max(row) > 0]
        if not used:
            return
        low, high = max(used[0] - 1, 0), used[-1] + 1
        axes = self.axes(position, left=1.3, top=1.4, right=0.4, bottom=1.0)
        colours = LinearSegmentedColormap.from_list("blues", [PANEL, "#12355f", "#2f6fc4", "#8ab8ff", "#deebff"])
        axes.pcolormesh(
            [at / 86400 for at in times],
            range(low, high),
            grid[low:high],
            cmap=colours,
            norm=matplotlib.colors.PowerNorm(0.5),
            shading="nearest",
        )
        axes.set_yticks(
            range(low, high), [f"≤ {shown(bound, unit)}" if bound < math.inf else "more" for bound in bounds[low:high]]
        )
        self.time_axis(axes)

    def draw_table(self, panel, position):
        columns = panel["transformations"][0]["options"]["include"]["names"]
        found = self.prometheus.now(panel["targets"][0]["expr"])
        columns = [name for name in columns if any(name in labels for labels, _ in found)] or columns
        if not found:
            self.text(position, position["w"] / 2 - 0.8, position["h"] / 2, "none", color=FAINT)
        for index, name in enumerate(columns):
            x = 0.3 + index * (position["w"] - 0.6) / len(columns)
            self.text(position, x, 1.3, name, color=FAINT, fontsize=6.5)
            for line, (labels, _) in enumerate(found[: int((position["h"] - 2.2) / 0.65)]):
                self.text(position, x, 2.0 + line * 0.65, labels.get(name, ""), fontsize=6.5)

    def draw_text(self, panel, position):
        width = int(position["w"] * 7.9)
        lines = []
        for line in panel["options"]["content"].split("\n"):
            if not line.startswith("```"):
                lines += textwrap.wrap(line, width, break_long_words=True) or [""]
        for index, line in enumerate(lines[: int((position["h"] - 1.4) / 0.55)]):
            self.text(position, 0.25, 1.3 + index * 0.55, line.replace("$", r"\$"), fontsize=6.2, color=FAINT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:19090")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--end", type=float, default=None)
    parser.add_argument("--var", action="append", default=[])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images"))
    parser.add_argument("dashboards", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    for file in arguments.dashboards:
        dashboard = json.loads(file.read_text())
        variables = {}
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                value = variable["current"]["value"]
                variables[variable["name"]] = variable["allValue"] if value == "$__all" else "|".join(value)
        variables |= dict(pair.split("=", 1) for pair in arguments.var)
        prometheus = Prometheus(arguments.prometheus, arguments.minutes, arguments.end or time.time(), variables)
        page = Page(dashboard, prometheus)
        page.draw()
        out = arguments.out / f"dashboard-{file.stem}.png"
        page.figure.savefig(out, dpi=100, facecolor=BACKGROUND)
        # Few colours make a small file; these are enough for the lines to keep theirs.
        Image.open(out).convert("RGB").quantize(255, kmeans=2, dither=Image.Dither.NONE).save(out, optimize=True)
        print(f"{out} {out.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

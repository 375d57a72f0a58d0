"""What the dashboards are made of: a thin layer on Grafana's own SDK, so that each panel is one call.

A panel is named by the question it answers; `unit` is one of Grafana's units.
"""

import json

from grafana_foundation_sdk.builders import (
    bargauge,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.builders import (
    common as common_builder,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models.dashboard import DataSourceRef

# Which Envoys: every selector has it.
ENVOYS = 'job=~"$job",instance=~"$instance"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

PER_SECOND = "cps"
REQUESTS = "reqps"
SHARE = "percentunit"
MICROSECONDS = "µs"
OCTETS_PER_SECOND = "Bps"
OCTETS = "bytes"
COUNT = "short"


def selected(labels=""):
    """The selector of what a panel counts."""
    return f"{{{ENVOYS}{',' + labels if labels else ''}}}"


def rate(metric, by="", labels=""):
    """Events each second, summed by labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{selected(labels)}[$__rate_interval]))"


def share(part, whole):
    """Of nothing there is no share: the panel then says so."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def quantile(q, histogram, by="", labels=""):
    """A quantile, by linear interpolation in Envoy's buckets."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', ', '.join(filter(None, ('le', by))), labels)})"


def quantiles(histogram, by="", prefix="", of=(0.5, 0.95, 0.99)):
    """Several of them, each a line called by its percentage."""
    return {f"{prefix}{int(q * 100)} %": quantile(q, histogram, by) for q in of}


def total(gauge, by="", labels=""):
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({gauge}{selected(labels)})"


def in_range(metric, by, labels=""):
    """Events in the whole range of time that the dashboard shows."""
    return f"sum by ({by}) (increase({metric}{selected(labels)}[$__range])) > 0"


def _query(index, expr, legend):
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + index)).datasource(SOURCE)


def _thresholds(steps):
    """From {value: colour}; below the first value all is well."""
    levels = [model.Threshold(value=None, color="green")]
    levels += [model.Threshold(value=value, color=colour) for value, colour in steps.items()]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(levels)


def _panel(builder, title, why, queries, unit, width, height, instant=False):
    panel = builder.title(title).description(why).datasource(SOURCE).unit(unit).span(width).height(height)
    for index, (legend, expr) in enumerate(queries.items()):
        query = _query(index, expr, legend)
        panel.with_target(query.instant() if instant else query.range())
    return panel


def number(title, why, expr, unit=COUNT, steps=None, width=4):
    """One number, with its history behind it."""
    panel = _panel(stat.Panel(), title, why, {"": expr}, unit, width, 4)
    reduced = common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel.reduce_options(reduced).graph_mode(common.BigValueGraphMode.AREA).no_value("none")
    panel.color_mode(common.BigValueColorMode.VALUE).thresholds(_thresholds(steps or {}))
    if not steps:
        panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color("blue"))
    return panel


def lines(title, why, queries, unit=PER_SECOND, stacked=False, steps=None, width=12, height=8, most=None):
    """Lines over time; `queries` are expressions by the legend of what they give."""
    panel = _panel(timeseries.Panel(), title, why, queries, unit, width, height).min(0)
    if most is not None:
        panel.max(most)
    # Beside the lines where there is room.
    place = common.LegendPlacement.RIGHT if width > 8 else common.LegendPlacement.BOTTOM
    legend = common_builder.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE)
    panel.legend(legend.placement(place).show_legend(True).calcs(["lastNotNull", "max"]))
    tooltip = common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel.tooltip(tooltip.sort(common.SortOrder.DESCENDING))
    panel.line_width(1).fill_opacity(35 if stacked else 5 if most is None else 0).show_points(
        common.VisibilityMode.NEVER
    )
    # What is counted appears with its first event.
    panel.span_nulls(60000).no_value("nothing yet")
    if stacked:
        panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if steps:
        panel.thresholds(_thresholds(steps))
        style = common_builder.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    return panel


def bars(title, why, queries, unit=COUNT, width=8, height=8):
    """The largest of many, in the whole range of time."""
    panel = _panel(bargauge.Panel(), title, why, queries, unit, width, height, instant=True).min(0)
    reduced = common_builder.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel.reduce_options(reduced).orientation(common.VizOrientation.HORIZONTAL).no_value("none")
    panel.display_mode(common.BarGaugeDisplayMode.BASIC).show_unfilled(True)
    return panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color("blue"))


def heat(title, why, histogram, labels="", width=12, height=8):
    """How values of a histogram spread over time."""
    expr = f"sum by (le) (increase({histogram}_bucket{selected(labels)}[$__rate_interval]))"
    panel = heatmap.Panel().title(title).description(why).datasource(SOURCE).span(width).height(height)
    panel.with_target(_query(0, expr, "{{le}}").range().format(prometheus_model.PromQueryFormat.HEATMAP))
    colours = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    panel.calculate(False).color(colours.exponent(0.5).fill("dark-blue"))
    return panel.y_axis(heatmap.YAxisConfig().unit(MICROSECONDS).axis_placement(common.AxisPlacement.LEFT))


def rows(title, why, expr, columns, width=12, height=8):
    """A table of what is so now: a row for each series, a column for each label."""
    panel = table.Panel().title(title).description(why).datasource(SOURCE).span(width).height(height)
    panel.with_target(_query(0, expr, "").instant().format(prometheus_model.PromQueryFormat.TABLE)).no_value("none")
    hidden = {"Time": True, "Value": True, "__name__": True}
    options = {"excludeByName": hidden, "indexByName": {name: index for index, name in enumerate(columns)}}
    only = {"include": {"names": columns}}
    panel.with_transformation(model.DataTransformerConfig(id_val="filterFieldsByName", options=only))
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=options))


def words(title, content, width=12, height=8):
    """Text, in Markdown."""
    return text.Panel().title(title).content(content).span(width).height(height)


def _variable(name, label, what, query, current):
    chosen = model.VariableOption(selected=True, text=current[0], value=current[1])
    variable = dashboard.QueryVariable(name).label(label).description(what).datasource(SOURCE).query(query)
    variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(".*").current(chosen)


ALL = ("All", "$__all")


def board(uid, title, what, panels, prefix=None):
    """A dashboard; `panels` has a list of panels for each row's title.

    With `prefix` there is a variable for the `stat_prefix` of the HTTP connection managers, which begins as that.
    """
    result = dashboard.Dashboard(title).uid(uid).description(what).tags(["beyond-http"]).readonly()
    result.time("now-1h", "now").timezone("browser").refresh("30s").tooltip(model.DashboardCursorSync.CROSSHAIR)
    link = dashboard.DashboardLink("Beyond HTTP").type(model.DashboardLinkType.DASHBOARDS).tags(["beyond-http"])
    result.link(link.keep_time(True).include_vars(True))
    result.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    result.with_variable(
        _variable("job", "job", "The scrape jobs of Envoys", "label_values(envoy_server_live, job)", ALL)
    )
    instances = 'label_values(envoy_server_live{job=~"$job"}, instance)'
    result.with_variable(_variable("instance", "Envoy", "Single Envoys", instances, ALL))
    if prefix:
        prefixes = f"label_values(envoy_http_downstream_rq_total{selected()}, envoy_http_conn_manager_prefix)"
        what = "stat_prefix of the HTTP connection managers behind the filter; udp_proxy's has to begin with the same"
        result.with_variable(_variable("prefix", "stat prefix", what, prefixes, ([prefix], [prefix])))
    clusters = f"label_values(envoy_cluster_membership_total{selected()}, envoy_cluster_name)"
    result.with_variable(_variable("cluster", "cluster", "The servers behind Envoy", clusters, ALL))
    for row, content in panels.items():
        result.with_row(dashboard.Row(row))
        for panel in content:
            result.with_panel(panel)
    return _as_grafana_saves_it(result.build())


def _as_grafana_saves_it(built):
    """As JSON; panels have numbers, which Grafana would give them itself, so that a link to one stays what it is."""
    saved = json.loads(JSONEncoder().encode(built))
    saved["annotations"] = {"list": []}
    for variable in saved["templating"]["list"]:
        # All have the same.
        del variable["id"]
    for number, panel in enumerate(saved["panels"], 1):
        panel["id"] = number
    return saved

"""Build charts as Vega-Lite specs with Altair; colors are names that the page's style defines for light and dark.

Charts compute nothing: all drawn values are also in the table below each chart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thunder.corpora.channels.confusions import display_character
from thunder.report.loss_curve import TRAIN, VALID, LossCurve, LossPoint
from thunder.report.text_diff import ClusterConfusion
from thunder.text.normalize import escape_hidden

BEFORE, AFTER = "before", "after"
RESTART, BEST, GATE, RANGE = "restart", "best", "gate", "range"  # styles, see page.js
ROW_HEIGHT = 30  # pixels from one line of a dumbbell chart to the next


@dataclass(frozen=True)
class Dumbbell:
    """One line: a rate before and after, and the interval of after; None is not drawn."""

    name: str
    before: float | None
    after: float | None
    low: float | None = None
    high: float | None = None


def loss_chart(course: LossCurve) -> dict[str, Any]:
    """Chart training and validation loss by step; restarts are dashed lines, the best checkpoint is a ring."""
    import altair as alt

    values = _line_points(course)
    series = alt.Color("of:N", title=None, scale=alt.Scale(domain=[TRAIN, VALID]), legend=alt.Legend(orient="top"))
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, tickCount=10, grid=False)),
        y=alt.Y("loss:Q", title="loss, nats", scale=alt.Scale(zero=False)),
        color=series,
        detail="part:N",
        opacity=alt.condition("datum.lost", alt.value(0.35), alt.value(1.0)),
        tooltip=[
            alt.Tooltip("of:N", title="loss of"), "step:Q", alt.Tooltip("loss:Q", format=".4f"), "attempt:O",
            alt.Tooltip("lost:N", title="gone over again"),
        ],
    )  # fmt: skip
    layers: list[Any] = [
        base.transform_filter(f"datum.of === '{TRAIN}'").mark_line(strokeWidth=1.5),
        base.transform_filter(f"datum.of === '{VALID}'").mark_line(point={"size": 40}, strokeDash=[5, 3]),
    ]
    if course.restarts:
        marks = [{"step": each.step, "what": each.what, "from": each.checkpoint} for each in course.restarts]
        layers.append(
            alt.Chart(alt.Data(values=marks))
            .mark_rule(style=RESTART, strokeDash=[2, 3], strokeWidth=2)
            .encode(x="step:Q", tooltip=["step:Q", "what:N", alt.Tooltip("from:Q", title="went on from")])
        )
    if course.best:
        best = alt.Chart(alt.Data(values=[asdict(course.best)])).encode(
            x="step:Q", y="loss:Q", tooltip=["step:Q", alt.Tooltip("loss:Q", format=".4f")]
        )
        layers.append(best.mark_point(style=BEST, shape="circle", size=220, strokeWidth=2.5, filled=False))
    return _chart_spec(alt.layer(*layers).properties(width="container", height=260))


def _line_points(course: LossCurve) -> list[dict[str, Any]]:
    """Return the points, each with its line: one line of all that counts, and a branch for each superseded stretch."""
    values: list[dict[str, Any]] = []
    for series in (TRAIN, VALID):
        counted: LossPoint | None = None
        for point in (each for each in course.points if each.of == series):
            branch = f"{series} lost {point.attempt}"
            if point.lost and counted and not any(value["part"] == branch for value in values):
                values.append(asdict(counted) | {"part": branch, "lost": True})  # where it leaves the line
            values.append(asdict(point) | {"part": branch if point.lost else series})
            counted = counted if point.lost else point
    return values


def dumbbell_chart(
    lines: Sequence[Dumbbell], what: str, gate: float | None = None, ticks: bool = True, letters: bool = False
) -> dict[str, Any]:
    """Chart before and after for each line, with the interval of after as a bar.

    ticks: a tick at before, the rate without any correction, which after must not exceed. gate: a line at the rate that
    all must stay below. letters: the names are characters, drawn larger.
    """
    import altair as alt

    values = [asdict(line) | {"name": line.name if letters else escape_hidden(line.name)} for line in lines]
    base = alt.Chart(alt.Data(values=values)).encode(y=_name_axis(letters))
    layers: list[Any] = []
    if any(line.before is not None and line.after is not None for line in lines):
        both = base.transform_filter("datum.before !== null && datum.after !== null")
        layers.append(both.mark_rule(style=RANGE, strokeWidth=2).encode(x="before:Q", x2="after:Q"))
        if ticks:
            layers.append(both.mark_tick(style=GATE, thickness=2, size=24).encode(x="before:Q"))
    if any(line.low is not None for line in lines):
        bars = base.transform_filter("datum.low !== null").mark_bar(style=RANGE, height=9, opacity=0.35)
        layers.append(bars.encode(x="low:Q", x2="high:Q"))
    if gate is not None:
        layers.append(
            alt.Chart(alt.Data(values=[{"gate": gate}]))
            .mark_rule(style=GATE, strokeDash=[6, 3], strokeWidth=2)
            .encode(x="gate:Q", tooltip=[alt.Tooltip("gate:Q", title="gate", format=".4f")])
        )
    return _chart_spec(
        alt.layer(*layers, _dumbbell_points(base, lines, what, ticks)).properties(
            width="container", height=_chart_height(lines)
        )
    )


def _dumbbell_points(base: Any, lines: Sequence[Dumbbell], what: str, is_rate: bool) -> Any:
    """Return the ends of the dumbbells: a circle before, a diamond after; the axis of rates before and after may start
    above zero.
    """
    import altair as alt

    kinds = [kind for kind in (BEFORE, AFTER) if any(getattr(line, kind) is not None for line in lines)]
    two = len(kinds) == 2
    legend = alt.Legend(orient="top") if two else None
    shapes = alt.Scale(domain=kinds, range=["circle", "diamond"][: len(kinds)])
    return (
        base.transform_fold(kinds, as_=["when", "rate"])
        .transform_filter("isValid(datum.rate)")
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x=alt.X("rate:Q", title=what, scale=alt.Scale(zero=not (two and is_rate)), axis=alt.Axis(tickCount=8)),
            color=alt.Color("when:N", title=None, scale=alt.Scale(domain=kinds), legend=legend),
            shape=alt.Shape("when:N", title=None, scale=shapes, legend=legend),
            tooltip=[alt.Tooltip("name:N", title=" "), *(alt.Tooltip(f"{kind}:Q") for kind in kinds)],
        )
    )


def confusion_chart(confusions: Sequence[ClusterConfusion]) -> dict[str, Any]:
    """Chart how often a grapheme cluster was recognized as another, before and after."""
    lines = [
        Dumbbell(confusion_label(each), float(each.before), None if each.after is None else float(each.after))
        for each in confusions
    ]  # fmt: skip
    return dumbbell_chart(lines, "times", ticks=False, letters=True)


def confusion_label(each: ClusterConfusion) -> str:
    """Return 'reference → hypothesis'; isolates keep right-to-left characters from reversing the arrow."""
    reference, hypothesis = (
        f"\u2068{escape_hidden(display_character(text))}\u2069" for text in (each.reference, each.hypothesis)
    )
    return f"{reference} → {hypothesis}"


def count_chart(lines: Sequence[tuple[str, int]], what: str) -> dict[str, Any]:
    """Chart counts as bars."""
    import altair as alt

    data = [{"name": escape_hidden(name), "times": times} for name, times in lines]
    bars = alt.Chart(alt.Data(values=data)).mark_bar(height=14).encode(x=_count_axis(what), y=_name_axis())
    numbers = bars.mark_text(align="left", dx=4).encode(text="times:Q")
    return _chart_spec((bars + numbers).properties(width="container", height=_chart_height(lines)))


def stacked_chart(values: Sequence[tuple[str, str, int]], kinds: Sequence[str], what: str) -> dict[str, Any]:
    """Chart counts by kind as stacked bars. values: (line, kind, count)."""
    import altair as alt

    data = [{"name": escape_hidden(name), "kind": escape_hidden(kind), "times": times} for name, kind, times in values]
    scale = alt.Scale(domain=[*map(escape_hidden, kinds)])
    color = alt.Color("kind:N", title=None, scale=scale, legend=alt.Legend(orient="top"))
    tips = [alt.Tooltip("name:N", title=" "), "kind:N", "times:Q"]
    bars = alt.Chart(alt.Data(values=data)).mark_bar(height=16)
    bars = bars.encode(x=_count_axis(what), y=_name_axis(), color=color, tooltip=tips)
    return _chart_spec(bars.properties(width="container", height=_chart_height({name for name, *_ in values})))


def _count_axis(what: str) -> Any:
    import altair as alt

    return alt.X("times:Q", title=what, axis=alt.Axis(tickMinStep=1, tickCount=8))


def _name_axis(letters: bool = False) -> Any:
    """Return the axis of the lines' names, in the order of the data."""
    import altair as alt

    axis = alt.Axis(ticks=False, domain=False, labelPadding=12, labelFontSize=18 if letters else 13)
    return alt.Y("name:N", title=None, sort=None, axis=axis)


def _chart_height(lines: Collection[Any]) -> int:
    return ROW_HEIGHT * len(lines)


def _chart_spec(chart: Any) -> dict[str, Any]:
    """Return the spec as JSON types, without Altair's theme: the page has its own for light and dark."""
    spec = chart.properties(autosize={"type": "fit-x", "contains": "padding"}).to_dict()
    spec.pop("config", None)
    return spec

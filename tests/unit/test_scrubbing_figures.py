"""Figures of scrubbing: everything is named once and readable, and numbers are those given."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from interp.figures import decodable, estimates, labels, waterfall
from interp.figures import scale as scales
from interp.figures.decodable import Claim, used_and_decodable
from interp.figures.estimates import against, changes, running, success
from interp.figures.named import NamedFigure
from interp.figures.placeholder import placeholder
from interp.figures.scale import Band, Mark, scale
from interp.figures.waterfall import Step
from tests.contract._checks import assert_draws

RNG = np.random.default_rng(0)
UGLY = "<b>not bold</b>\nnext & last" + "x" * 200
MODEL, SHUFFLED = Mark("model", 0.0013), Mark("shuffled labels", 3.61)
ANCHORS = [
    MODEL,
    Mark("constant guess", 0.577),
    SHUFFLED,
    Mark("empty, shared draw", 3.628, (3.4, 3.8)),
    Mark("empty, separate draws", 2.219),
    Mark("zero ablation", 92.0, hint="leaves the distribution"),
]
DRAWS = np.round(1.5 + 0.5 * RNG.standard_normal(60), 1)
BANDS = [
    Band("random sites", DRAWS, "better than 58 of 60, p = 0.049"),
    Band("random features", DRAWS / 2),
]
VERSIONS = [Mark("without leaks", 1.948, (1.85, 2.05)), Mark("the version before", 14.0)]
OF_SCALE: dict[str, Any] = {"unit": "nats", "title_of_x": "loss, nats (lower is better)"}
STEPS = [
    Step("all else is exchanged", 0.0, 0.12, (0.1, 0.14)),
    Step("head 1.0 matters through count", 0.12, 0.31, (0.16, 0.22), "hint", 1),
    Step("head 2.0 matters through count", 0.31, 0.27, (-0.06, -0.02), depth=1),
    Step("its value matters through start", 0.35, 0.35, depth=2),
    Step("head 2.1 matters through horizon", 0.35, 0.52, (0.1, 0.31), depth=1),
]
OF_FALL: dict[str, Any] = {"unit": "nats", "title": "loss, nats (lower is better)"}
CLAIMS = [
    Claim("count at 1.0", 0.97, 0.6, 0.7, (0.96, 0.98), 0.8, (0.7, 0.9)),
    Claim("start at 2.1", 0.93, 0.6, 0.7, (0.91, 0.95), 0.002, (-0.004, 0.008)),
    Claim("horizon at 2.1", 0.75, 0.6, 0.8, (0.7, 0.82), 0.4, (0.3, 0.5)),
    Claim("length at m0", 0.9, 0.5, 0.49, (0.8, 0.95), 0.1, (-0.2, 0.4)),
    Claim("parity at m1", math.nan, 0.5, math.nan, None, math.nan, None),
]
NONE = np.array([])
PAIR = ("model, logits", "scrubbed, logits")


@cache
def drawn(name: str = "plain") -> dict[str, go.Figure]:
    """Each figure, with one name or text in it replaced."""
    name = "an ordinary name" if name == "plain" else name
    m = np.array([1.0, -2.0, 3.0])
    n = np.array([1, 2])
    return {
        "scale": scale(0.52, (0.48, 0.56), [*ANCHORS, Mark(name, 1.0, hint=name)],
                       [*BANDS, Band(name, DRAWS, name)], versions=[*VERSIONS, Mark(name, 1.2)],
                       percent=(Mark(name, 3.0), MODEL), **OF_SCALE),
        "waterfall": waterfall.waterfall(
            [*STEPS, Step(name, 0.52, 0.6, None, name, 40)], ends=(name, name), **OF_FALL),
        "running": running(n, m[:2], m[:2] - 1, m[:2] + 1, marks=[Mark(name, 1.0)], title="nats"),
        "against": against(m, m + 1, np.ones(3), [name, "a", "b"], [name] * 3, titles=PAIR),
        "changes": changes(m, delta=0.1, title="nats", unit=name[:20]),
        "used": used_and_decodable([*CLAIMS, CLAIMS[0]._replace(label=name)], title="nats",
                                   least=0.05),
        "success": success(m, m, [name, "a", "b"], [name] * 3, titles=PAIR, correlation=name),
    }  # fmt: skip


def empty() -> dict[str, go.Figure]:
    """Each figure before there is anything."""
    return {
        "scale": scale(math.nan, None, [], **OF_SCALE),
        "bands": scale(math.nan, None, [Mark("gone", math.nan)], [Band("none", NONE)], **OF_SCALE),
        "waterfall": waterfall.waterfall([], **OF_FALL),
        "running": running(np.array([], int), NONE, NONE, NONE, marks=[], title="nats"),
        "against": against(NONE, NONE, NONE, [], [], titles=PAIR),
        "changes": changes(NONE, delta=0.1, title="nats"),
        "used": used_and_decodable([], title="nats", least=0.05),
        "success": success(NONE, NONE, [], [], titles=PAIR, correlation="too few"),
        "placeholder": placeholder(PAIR),
        "across": placeholder(("loss, nats", "")),
    }


def one() -> dict[str, go.Figure]:
    """Each figure of one number, all the same."""
    x = np.array([0.3])
    return {
        "scale": scale(0.3, None, [Mark("model", 0.3)], [Band("one", x)], **OF_SCALE),
        "waterfall": waterfall.waterfall([Step("a", 0.3, 0.3)], **OF_FALL),
        "running": running(np.array([100]), x, x - 0.1, x + 0.1, marks=[], title="nats"),
        "against": against(x, x, x, ["a"], ["b"], titles=PAIR),
        "changes": changes(x, delta=0.1, title="nats"),
        "used": used_and_decodable(CLAIMS[:1], title="nats", least=0.05),
        "success": success(x, x, ["a"], ["b"], titles=PAIR, correlation="too few"),
    }


def extreme() -> dict[str, go.Figure]:
    """Each figure with numbers far from each other, and some that are missing."""
    x = np.array([1e12, -1e-12, 0.0, math.nan, 3.0])
    marks = [Mark(f"at {v}", float(v)) for v in x]
    marks[3] = Mark("missing", math.nan, (math.nan, math.nan))
    marks[4] = Mark("no interval", 3.0, (math.nan, math.nan))
    steps = [Step(f"to {i}", float(a), float(b)) for i, (a, b) in enumerate(itertools.pairwise(x))]
    claims = [
        Claim("a claim", 0.5, math.nan, 0.5, (0.4, 0.6), float(v), (math.nan, 1.0)) for v in x
    ]
    return {
        "scale": scale(1e9, (-1e3, 1e10), marks, [Band("far", x)], versions=marks,
                       percent=(SHUFFLED, MODEL), **OF_SCALE),
        "same": scale(1.0, None, marks, percent=(MODEL, MODEL), **OF_SCALE),
        "waterfall": waterfall.waterfall(steps, **OF_FALL),
        "running": running(np.arange(5), x, x - 1, x + np.nan, marks=marks, title="nats"),
        "against": against(x, x[::-1], x, list("abcde"), list("abcde"), titles=PAIR),
        "changes": changes(x, delta=0.1, title="nats"),
        "used": used_and_decodable(claims, title="nats", least=0.05),
        "success": success(x, x[::-1], list("abcde"), list("abcde"), titles=PAIR, correlation=""),
    }  # fmt: skip


def layout(figure: go.Figure) -> Any:
    return figure.layout


def written(figure: go.Figure) -> list[str]:
    return [a.text for a in layout(figure).annotations]


def told(figure: go.Figure) -> list[str]:
    """Every text of a figure that plotly reads as markup."""
    traces: list[Any] = list(figure.data)
    found = [*written(figure), *(a.hovertext or "" for a in layout(figure).annotations)]
    for trace in traces:
        found += [trace.name or "", trace.hovertemplate or ""]
        for given in (trace.text, trace.hovertext, trace.customdata):
            if given is None:
                continue
            found += [given] if isinstance(given, str) else [t for t in given if isinstance(t, str)]
    axes = [a for a in layout(figure) if a[:5] in ("xaxis", "yaxis")]
    return [*found, *(layout(figure)[axis].title.text or "" for axis in axes)]


def table(figure: go.Figure) -> list[dict[str, str]]:
    text = NamedFigure("n", "t", "", figure).csv
    return list(csv.DictReader(io.StringIO(text)))


def trace(figure: go.Figure, name: str) -> Any:
    found = [t for t in list(figure.data) if t.name == name]
    assert len(found) == 1, [t.name for t in list(figure.data)]
    return found[0]


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [drawn, empty, one, extreme])
def test_every_figure_draws_and_has_a_table(made: Any) -> None:
    for name, figure in made().items():
        assert_draws([NamedFigure(name, name, "", figure)])
        rows = table(figure)
        assert "nan" not in str(rows).lower(), name
        for axis in (a for a in layout(figure) if a[:5] in ("xaxis", "yaxis")):
            ends = layout(figure)[axis].range
            assert ends is None or (np.isfinite(ends).all() and ends[0] != ends[1]), (name, axis)
        assert 60 <= layout(figure).height <= 2000


def test_names_of_users_are_text() -> None:
    """No figure lets a name be read as markup, breaks a line at one, or is widened by one."""
    assert any("<b>not" in text for text in told(drawn()["scale"])) is False
    for name, figure in drawn(UGLY).items():
        texts = told(figure)
        assert not any("<b>not" in text or "\n" in text for text in texts), name
        # A legend of names is as wide as the window.
        assert max(map(labels.width_px, written(figure)), default=0) < 720, name
    control = go.Figure(go.Scatter(x=[0], y=[0], text=[UGLY]))
    assert any("<b>not" in text for text in told(control))


@pytest.mark.parametrize("name", ["scale", "waterfall", "used"])
def test_names_stand_in_their_margin(name: str) -> None:
    figure = drawn(UGLY)[name]
    left = layout(figure).margin.l
    beside = [a for a in layout(figure).annotations if a.xref == "paper"]
    assert len(beside) >= 6
    for a in beside:
        width = labels.width_px(a.text.replace("<b>", "").replace("<i>", ""))
        begins = a.xshift - width if a.xanchor == "right" else a.xshift
        assert -left <= begins
        assert begins + width <= (0 if a.xanchor == "right" else 8)


def test_wrapped_text_keeps_its_words() -> None:
    assert labels.wrapped("one two three", 7) == "one two<br>three"
    assert labels.wrapped("", 7) == ""
    assert labels.wrapped("a<b", 7) == "a&lt;b"
    cut = labels.wrapped("word " * 50, 20, 2)
    assert cut.count("<br>") == 1
    assert cut.endswith("…")
    assert labels.width_px("a&lt;b<br>c") == labels.width_px("abc") < labels.width_px("日本")


# --- names of marks -------------------------------------------------------------------------------


def boxes(at: list[float], flags: tuple[labels.Flag, ...]) -> list[tuple[float, float, int]]:
    """Where each name is, worked out from side, width and level alone."""
    return [
        (x, x + f.width, f.level) if f.side == 1 else (x - f.width, x, f.level)
        for x, f in zip(at, flags, strict=True)
    ]


def collisions(placed: list[tuple[float, float, int]]) -> int:
    return sum(
        a[2] == b[2] and a[0] < b[1] and b[0] < a[1] for a, b in itertools.combinations(placed, 2)
    )


def through(at: list[float], flags: tuple[labels.Flag, ...]) -> int:
    """How many lines from names down to their marks run through other names."""
    return sum(
        low < x < high and flag.level > level
        for low, high, level in boxes(at, flags)
        for x, flag in zip(at, flags, strict=True)
    )


@pytest.mark.parametrize("seed", range(6))
def test_twenty_names_do_not_collide_at_any_width(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.random(20) ** (1 + seed)
    widths = rng.uniform(40, 200, 20).tolist()
    flags = labels.flags((shares * 450).tolist(), widths, (-200.0, 470.0))
    for across in (450, 700, 1500):
        placed = boxes((shares * across).tolist(), flags)
        assert collisions(placed) == 0
        assert all(low >= -200 and high <= across + 20 for low, high, _ in placed)
    flat = tuple(flag._replace(level=0) for flag in flags)
    assert collisions(boxes((shares * 450).tolist(), flat)) > 0  # the control


def test_no_line_runs_through_the_names_of_usual_anchors() -> None:
    at = [14.0, 78.0, 130.0, 158.0, 260.0, 411.0, 413.0, 450.0]
    flags = labels.flags(
        at, [90.0, 147.0, 130.0, 160.0, 190.0, 140.0, 170.0, 130.0], (-196.0, 472.0)
    )
    assert through(at, flags) == 0
    low = tuple(flag._replace(side=1, level=i % 2) for i, flag in enumerate(flags))
    assert through(at, low) > 0  # the control


# --- the scale ------------------------------------------------------------------------------------


@cache
def whole() -> go.Figure:
    return scale(
        0.52, (0.48, 0.56), ANCHORS, BANDS, versions=VERSIONS, percent=(SHUFFLED, MODEL), **OF_SCALE
    )


def test_scale_names_everything_once() -> None:
    texts = [text.replace("<br>", " ") for text in written(whole())]
    for part in [
        *(f"{a.name} {a.value:.3g}" for a in ANCHORS),
        "this hypothesis",
        "0.52 [0.48, 0.56]",
        "without leaks",
        "1.95 [1.85, 2.05]",
        "the version before",
        "random sites, better than 58 of 60, p = 0.049",
        "random features, n = 60",
    ]:
        assert sum(part in text for text in texts) == 1, part
    lanes = [a for a in layout(whole()).annotations if a.xref == "paper"]
    heights = [a.y for a in lanes]
    assert heights == sorted(heights)
    assert min(np.diff(heights)) > 2.5 * labels.LINE
    # A null whose name and note are long has a higher lane; one without draws says so.
    long = Band("features of the data on sites at random", DRAWS, "better than 58 of 60: by chance")
    figure = scale(0.5, None, [], [long, Band("b", NONE), Band("c", DRAWS)], **OF_SCALE)
    lanes = [a for a in layout(figure).annotations if a.xref == "paper"]
    for above, below in itertools.pairwise(lanes):
        lines = 2 + above.text.count("<br>") + below.text.count("<br>")
        assert below.y - above.y >= labels.LINE * lines / 2
    assert lanes[2].text == "b,<br>none computed yet"


def test_a_lane_may_have_a_level_of_its_own() -> None:
    marks = [Mark("a", 2.0, level=Mark("guess", 5.0)), Mark("b", 1.0)]
    figure = scale(3.0, None, [], versions=marks, level=Mark("guess", 0.1), **OF_SCALE)
    levels = [t for t in list(figure.data) if t.name == "guess"]
    lanes = [a.y for a in layout(figure).annotations if a.xref == "paper"]
    assert [(t.x[0], t.y[0]) for t in levels] == [(0.1, lanes[0]), (5.0, lanes[1])]
    low, high = layout(figure).xaxis.range
    assert low < 0.1 < 5.0 < high


def test_scale_keeps_numbers_that_it_cannot_show() -> None:
    """Far numbers stand at the edge with an arrow, and the others have the room."""
    figure = whole()
    low, high = layout(figure).xaxis.range
    assert low < 0
    assert 3.8 < high < 7.3
    assert sum("▶" in text for text in written(figure)) == 2
    rows = {row["point"]: row for row in table(figure) if row["point"] != "one draw"}
    assert float(rows["zero ablation"]["loss, nats (lower is better)"]) == 92.0
    assert float(rows["the version before"]["loss, nats (lower is better)"]) == 14.0
    assert [float(rows["this hypothesis"][end]) for end in ("low", "high")] == pytest.approx(
        [0.48, 0.56]
    )
    assert rows["constant guess"]["low"] == ""
    every = scale(0.52, None, ANCHORS, BANDS, versions=VERSIONS, **OF_SCALE)
    assert layout(every).xaxis.range[1] > 92  # the control
    assert not any("▶" in text for text in written(every))
    stated = scale(0.52, None, ANCHORS, limits=(0.1, 2.5), **OF_SCALE)
    assert sum("▶" in text for text in written(stated)) == 3
    assert sum("◀" in text for text in written(stated)) == 1


def test_scale_shows_per_cent_of_the_way() -> None:
    figure = whole()
    above = layout(figure).xaxis2
    assert list(above.range) == list(layout(figure).xaxis.range)
    for at, text in zip(above.tickvals, above.ticktext, strict=True):
        per_cent = float(text.removesuffix(" %").replace("−", "-"))
        assert 100 * (3.61 - at) / (3.61 - 0.0013) == pytest.approx(per_cent)
    assert 4 <= len(above.ticktext) <= 9
    assert "0 % = shuffled labels, 100 % = model" in above.title.text
    hover = trace(figure, "this hypothesis").hovertext[0]
    assert hover == "0.52 [0.48, 0.56] nats, 85.6 % recovered"
    assert f"{(3.61 - 0.52) / (3.61 - 0.0013):.1%}" == "85.6%"
    plain = scale(0.52, None, ANCHORS, percent=(MODEL, MODEL), **OF_SCALE)
    assert "xaxis2" not in plain.to_plotly_json()["layout"]


def test_nulls_show_every_draw_and_their_percentiles() -> None:
    figure = whole()
    draws, median = (t for t in list(figure.data) if t.name == "random sites")
    assert sorted(draws.x) == sorted(DRAWS)
    assert len(set(zip(draws.x, draws.y, strict=True))) == 60
    assert len(set(DRAWS)) < 40  # the control: many are equal
    ordered = sorted(DRAWS)
    at = [0.05 * 59, 0.5 * 59, 0.95 * 59]
    low, mid, high = (
        ordered[int(p)] + (p % 1) * (ordered[min(59, int(p) + 1)] - ordered[int(p)]) for p in at
    )
    assert median.x[0] == pytest.approx(mid)
    band = next(s for s in layout(figure).shapes if s.type == "rect")
    assert (band.x0, band.x1) == pytest.approx((low, high))
    assert f"5 to 95 %: {low:.4g} to {high:.4g}" in median.hovertext[0]
    assert max(abs(y - median.y[0]) for y in draws.y) <= 17


def test_numbers_beside_dots_stay_inside() -> None:
    """To the right of a dot, else to its left, above it where there is no room on either side."""
    marks = [Mark("a", 0.0, (-0.1, 0.1)), Mark("b", 10.0, (9.0, 10.0)), Mark("c", 5.0, (0.0, 10.0))]
    figure = scale(2.0, None, [], versions=marks, **OF_SCALE)
    beside = {a.text: a for a in layout(figure).annotations if "[" in a.text}
    assert [a.xanchor for a in beside.values()] == ["left", "right", "center"]
    assert beside["5 [0, 10]"].yshift > 0


# --- the waterfall --------------------------------------------------------------------------------


def test_waterfall_steps_from_the_model_to_the_hypothesis() -> None:
    figure = waterfall.waterfall(STEPS, **OF_FALL)
    bars, ends, after = (trace(figure, name) for name in ("change", "ends", "after"))
    assert np.add(bars.base, bars.x) == pytest.approx([s.after for s in STEPS])
    assert list(after.x) == [s.after for s in STEPS]
    assert list(ends.x) == [0.0, 0.52]
    assert np.sign(bars.x).tolist() == [1, 1, -1, 0, 1]
    colours = {c: s for c, s in zip(bars.marker.color, np.sign(bars.x), strict=True) if s}
    assert sorted(colours.values()) == [-1, 1]
    for one_trace in (bars, after):
        assert [list(d) for d in one_trace.customdata] == [[0], [1], [2], [3], [4]]
    texts = [t.replace("<br>", " ") for t in written(figure)]
    for part in [*(s.label for s in STEPS), "the model", "the hypothesis", "+0.19 [+0.16, +0.22]"]:
        assert texts.count(part) == 1, part
    indents = [a.xshift for a in layout(figure).annotations[1:6]]
    assert np.diff(indents).tolist() == [14, 0, 14, -14]
    # Only what goes on where the row above ended is joined to it.
    assert sum(s.type == "line" for s in layout(figure).shapes) == 5
    rows = [r for r in table(figure) if r["series"] == "after"]
    assert float(rows[1]["low"]) == pytest.approx(0.12 + 0.16)
    assert json.loads(figure.to_json())["data"][1]["customdata"][1] == [1]


@pytest.mark.parametrize("base", [0.0, 3.2, -0.4])
def test_waterfall_writes_numbers_beside_bars(base: float) -> None:
    """Within the window, and over no bar and no interval."""
    steps = [
        Step(s.label, base + s.before, base + s.after - (s is STEPS[4]) * 3, s.interval)
        for s in STEPS
    ]
    figure = waterfall.waterfall(steps, **OF_FALL)
    low, high = layout(figure).xaxis.range
    assert (low <= 0 <= high) or base == 3.2
    px = (labels.NARROW - layout(figure).margin.l - layout(figure).margin.r) / (high - low)
    numbers = [a for a in layout(figure).annotations if a.xref != "paper"]
    assert len(numbers) == 7
    for a, step in zip(numbers[1:-1], steps, strict=True):
        at, width = (a.x - low) * px + a.xshift, labels.width_px(a.text)
        begins, stops = (at, at + width) if a.xanchor == "left" else (at - width, at)
        assert begins >= 0
        assert stops <= px * (high - low) + layout(figure).margin.r
        bar = sorted([(step.before - low) * px, (step.after - low) * px])
        assert stops < bar[0] or begins > bar[1], step.label


def test_waterfall_passes_over_what_has_no_number() -> None:
    steps = [STEPS[0], Step("unknown", 0.12, math.nan), Step("next", 0.12, 0.2)]
    figure = waterfall.waterfall(steps, **OF_FALL)
    assert "unknown" in written(figure)
    assert len(trace(figure, "change").x) == 2
    assert not any("nan" in text for text in told(figure))


# --- estimates ------------------------------------------------------------------------------------


def test_running_estimate_has_its_interval_and_levels() -> None:
    done, mean = np.array([10, 20, 30]), np.array([0.5, 0.6, 0.55])
    half = np.array([0.2, 0.1, 0.05])
    levels = [Mark(f"level {i}", 0.5 + 0.01 * i) for i in range(8)]
    figure = running(done, mean, mean - half, mean + half, marks=levels, title="loss, nats")
    rows = table(figure)
    assert [float(r["loss, nats"]) for r in rows] == mean.tolist()
    assert [float(r["low"]) for r in rows] == pytest.approx((mean - half).tolist())
    assert list(rows[0])[1:3] == ["evaluations: references × draws", "loss, nats"]
    names = layout(figure).annotations
    assert len(names) == len({a.text for a in names}) == 8
    low, high = layout(figure).yaxis.range
    px = sorted((a.y - low) / (high - low) * (layout(figure).height - 70) for a in names)
    assert min(np.diff(px)) >= labels.LINE - 0.01
    assert px[0] >= 0
    assert not trace(figure, "this hypothesis").error_y.visible
    first = running(done[:1], mean[:1], mean[:1] - 1, mean[:1] + 1, marks=[], title="nats")
    assert trace(first, "this hypothesis").error_y.visible


def test_inputs_against_the_model_are_sampled_evenly() -> None:
    n = 9000
    x = np.arange(n, dtype=float)
    names = [f"input {i}" for i in range(n)]
    figure = against(x, x + 1, x * 0, ["a", "b", "b"] * (n // 3), names, titles=PAIR)
    parts = list(figure.data)[1:]
    every = np.sort(np.concatenate([part.x for part in parts]))
    assert len(every) == estimates.MOST_POINTS
    assert (every[0], every[-1]) == (0, n - 1)
    assert set(np.diff(every)) == {4.0, 5.0}
    assert [part.name for part in parts] == ["b", "a"]
    assert any("2,000 of 9,000" in text for text in written(figure))
    few = against(x[:50], x[:50], x[:50], list("abcde") * 10, names[:50], titles=PAIR)
    assert not written(few)
    assert [part.name for part in list(few.data)[1:]] == ["a", "b", "other"]
    assert sum(len(part.x) for part in list(few.data)[1:]) == 50
    assert float(table(few)[1]["high"]) == pytest.approx(10.0)
    assert [p.error_y.visible for p in (parts[0], list(few.data)[1])] == [False, True]


def test_changes_count_every_input_once() -> None:
    delta = 0.1
    values = np.concatenate(
        [RNG.exponential(1.0, 300), -RNG.exponential(0.2, 100), np.full(40, delta), [-delta] * 7]
    )
    figure = changes(np.append(values, [math.nan, 1e6]), delta=delta, title="nats")
    worse, better = np.sum(values > delta) + 1, np.sum(values < -delta)
    found = {part.name.split(":")[0]: part for part in list(figure.data)}
    counts = {name: int(np.sum(part.y)) for name, part in found.items()}
    assert counts == {
        "better by more than 0.1 nats": better,
        "neither": len(values) + 1 - worse - better,
        "worse by more than 0.1 nats": worse,
    }
    share = found["worse by more than 0.1 nats"].name.split(": ")[1]
    assert share == f"{worse / (len(values) + 1):.1%}"
    right = found["worse by more than 0.1 nats"]
    assert np.min(np.subtract(right.x, np.array(right.width) / 2)) == pytest.approx(delta)
    assert layout(figure).xaxis.range[1] < 100  # one input at 1e6 does not squash the others
    assert written(figure) == ["outermost bars: 1 further out; left out for want of a number: 1"]


def test_decodable_and_used_are_told_apart() -> None:
    said = [c.verdict(0.05) for c in CLAIMS]
    assert said == [
        "decodable, used",
        "decodable, not used",
        "not clear of the baselines, used",
        "decodable, use unclear",
        "",
    ]
    # A cost that is surely above 0 and surely below what counts is none.
    assert CLAIMS[0]._replace(cost_interval=(0.01, 0.02)).verdict(0.05) == said[1]
    # Where the model is worse than a guess nothing is said about use, whatever the cost.
    unjudged = [c._replace(judged=False) for c in CLAIMS]
    assert not any("used" in c.verdict(0.05) for c in unjudged)
    assert unjudged[0].verdict(0.05) == "decodable, use not judged"
    drawn_so = used_and_decodable(unjudged, title="cost, nats", least=0.05)
    assert not any(s.type == "rect" for s in layout(drawn_so).shapes)
    figure = used_and_decodable(CLAIMS, title="cost, nats", least=0.05)
    filled = {
        name: [symbol == "circle" for symbol in trace(figure, name).marker.symbol]
        for name in ("held-out accuracy", "cost")
    }
    assert filled == {
        "held-out accuracy": [True, True, False, True],
        "cost": [True, False, True, False],
    }
    tinted = [s for s in layout(figure).shapes if s.type == "rect"]
    assert len(tinted) == 1
    assert tinted[0].y0 < trace(figure, "cost").y[1] < tinted[0].y1
    assert sum("<b>" in text for text in written(figure)) == 1
    for claim in CLAIMS:
        assert sum(text.startswith(claim.label) for text in written(figure)) == 1
    rows = [r for r in table(figure) if r["series"] == "cost" and r["point"] == "count at 1.0"]
    assert float(rows[0]["low"]) == pytest.approx(0.7)
    assert decodable._NOT_USED in said


def test_success_keeps_kinds_apart() -> None:
    x = np.arange(6, dtype=float)
    kinds = ["right", "wrong", "random", "random", "wrong", "right"]
    y = np.where(x == 3, math.nan, x)
    figure = success(x, y, kinds, list("abcdef"), titles=PAIR, correlation="rho = 0.5 [0, 1]")
    assert [t.name for t in list(figure.data)] == ["right", "wrong", "random"]
    looks = {(t.marker.color, t.marker.symbol) for t in list(figure.data)}
    assert len(looks) == 3
    assert [row["point"] for row in table(figure)] == ["a", "f", "b", "e", "c"]
    assert written(figure) == ["rho = 0.5 [0, 1]"]


def test_the_narrowest_window_is_the_one_that_is_planned_for() -> None:
    for figure, across in (
        (drawn()["scale"], scales._ACROSS),
        (drawn()["waterfall"], waterfall._ACROSS),
    ):
        margin = layout(figure).margin
        assert across == labels.NARROW - margin.l - margin.r
        assert margin.autoexpand is False

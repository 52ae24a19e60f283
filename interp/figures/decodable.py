"""What can be decoded beside what is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from interp.figures import labels, theme

_LEFT, _LETTERS, _TITLE = 200, 27, 24
_ORANGE, _TINT = "#e08214", "rgba(224,130,20,0.18)"
_NOT_USED = "decodable, not used"
UNJUDGED = "use not judged"
_Interval = tuple[float, float] | None
_Dot = tuple[str, float, _Interval, bool]
"""What a number is of, the number, its interval, and whether its dot is filled."""


class Claim(NamedTuple):
    """A feature at a site: how well it can be read there, and whether the model reads it.

    Attributes:
        label: The feature and its site.
        accuracy: Held-out accuracy of a probe, 0 to 1.
        majority: Accuracy of always guessing the commonest value.
        tokens: Accuracy of a probe of the tokens alone.
        interval: Ends of the interval of the accuracy.
        cost: What it costs, in nats, to draw the site without regard to the feature; > 0: it is
            used.
        cost_interval: Ends of the interval of the cost.
        judged: Whether the cost says anything about use: not in a model that is worse than a guess.
    """

    label: str
    accuracy: float
    majority: float
    tokens: float
    interval: _Interval
    cost: float
    cost_interval: _Interval
    judged: bool = True

    @property
    def decodable(self) -> bool:
        """Whether the accuracy's whole interval is above both baselines."""
        least = float(np.nanmax([self.majority, self.tokens, 0.0]))
        return self.interval is not None and self.interval[0] > least

    def used(self, least: float) -> bool | None:
        """Whether the cost's whole interval is above 0 and not below ``least``; None: unclear."""
        if self.cost_interval is None:
            return None
        low, high = self.cost_interval
        return False if high < least else True if low > 0 else None

    def verdict(self, least: float) -> str:
        """Both in words; nothing where an interval lacks."""
        if not (self.interval and self.cost_interval):
            return ""
        if not np.isfinite([*self.interval, *self.cost_interval]).all():
            return ""
        use = {True: "used", False: "not used", None: "use unclear"}[self.used(least)]
        use = use if self.judged else UNJUDGED
        return f"{'decodable' if self.decodable else 'not clear of the baselines'}, {use}"


def used_and_decodable(claims: Sequence[Claim], *, title: str, least: float) -> go.Figure:
    """Draw, a row a claim: on the left what can be decoded, on the right what is used.

    Dots are filled where the whole interval is above both baselines, or shows use; both in words
    are below each name. Rows that are decodable and not used are tinted, where that is judged.

    Args:
        claims: First on top.
        title: Of the axis of costs, with unit and what is drawn at random.
        least: Cost in nats below which a feature counts as not used, > 0; a dotted line.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    at, depth = _rows(figure, claims, least)
    dots = (
        ("held-out accuracy", [(c.label, c.accuracy, c.interval, c.decodable) for c in claims]),
        ("cost", [(c.label, c.cost, c.cost_interval, bool(c.used(least))) for c in claims]),
    )
    for col, (name, each) in enumerate(dots, 1):
        figure.add_trace(_points(each, at, name, {"size": 11, "color": _ORANGE}), row=1, col=col)
    for name, symbol, values in (
        ("majority guess", "line-ns-open", [c.majority for c in claims]),
        ("tokens alone", "x-thin-open", [c.tokens for c in claims]),
    ):
        look = {"symbol": symbol, "size": 13, "color": theme.NEUTRAL, "line": {"width": 2}}
        each = [(c.label, value, None, True) for c, value in zip(claims, values, strict=True)]
        figure.add_trace(_points(each, at, name, look), row=1, col=1)
    for x, dash in ((0.0, "solid"), (least, "dot")):
        figure.add_shape(
            type="line", xref="x2", yref="y2 domain", x0=x, x1=x, y0=0, y1=1, layer="below",
            line={"color": theme.NEUTRAL, "width": 1, "dash": dash},
        )  # fmt: skip
    theme.style(figure, height=int(depth) + 144)
    figure.update_yaxes(visible=False, range=[depth, 0])
    figure.update_xaxes(ticks="outside", nticks=5, automargin=False, title_font_size=13)
    decodable = "decodable?<br>held-out accuracy"
    figure.update_xaxes(title=decodable, range=[0, 1.05], row=1, col=1)
    figure.update_xaxes(title="used?<br>" + labels.wrapped(title, _TITLE, 2), row=1, col=2)
    figure.update_layout(
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": _LEFT, "r": 16, "t": 42, "b": 102, "autoexpand": False},
    )
    return figure


def _rows(
    figure: go.Figure, claims: Sequence[Claim], least: float
) -> tuple[Float[np.ndarray, "claim"], float]:
    """Write the claims' names and tint rows; return the rows' places and how far down they reach.

    All in pixels from the top.
    """
    told: list[str] = []
    notable = [c.verdict(least) == _NOT_USED for c in claims]
    for c, mark in zip(claims, notable, strict=True):
        verdict = labels.wrapped(c.verdict(least), _LETTERS)
        styled = f"<b>{verdict}</b>" if mark else f"<i>{verdict}</i>"
        told.append(labels.wrapped(c.label, _LETTERS) + (f"<br>{styled}" if verdict else ""))
    heights = [labels.LINE * (1 + text.count("<br>")) + 16 for text in told]
    starts = np.cumsum([0, *heights])
    for text, mark, top, height in zip(told, notable, starts, heights, strict=False):
        figure.add_annotation(
            xref="paper", x=0, xshift=8 - _LEFT, xanchor="left", align="left", y=top + height / 2,
            text=text, showarrow=False, font={"size": labels.SIZE},
        )  # fmt: skip
        if mark:
            figure.add_shape(
                type="rect", xref="paper", x0=0, x1=1, y0=top + 2, y1=top + height - 2,
                fillcolor=_TINT, line_width=0, layer="below",
            )  # fmt: skip
    return (starts[:-1] + starts[1:]) / 2, float(starts[-1]) or 40.0


def _points(
    dots: Sequence[_Dot], at: Float[np.ndarray, "claim"], name: str, look: dict[str, Any]
) -> go.Scatter:
    """Draw a number a row, with its interval; rows without a number have none."""
    known = [(*dot, float(y)) for dot, y in zip(dots, at, strict=True) if np.isfinite(dot[1])]
    x = np.array([value for _, value, *_ in known], float)
    ends = np.array([one or (np.nan, np.nan) for _, _, one, *_ in known], float).reshape(-1, 2)
    spread = {
        "array": ends[:, 1] - x, "arrayminus": x - ends[:, 0], "symmetric": False,
        "thickness": 2, "width": 0, "color": _ORANGE,
    }  # fmt: skip
    if "symbol" not in look:
        look = {
            **look,
            "symbol": ["circle" if filled else "circle-open" for *_, filled, _ in known],
        }
    return go.Scatter(
        x=x, y=[y for *_, y in known], mode="markers", name=name, marker=look,
        text=[labels.wrapped(label, 60) for label, *_ in known],
        showlegend=isinstance(look["symbol"], str),
        error_x=spread if np.isfinite(ends).any() else None,
        hovertemplate=f"%{{text}}<br>{name}: %{{x:.4g}}<extra></extra>",
    )  # fmt: skip

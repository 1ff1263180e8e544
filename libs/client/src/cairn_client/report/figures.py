"""The report's plots as inline SVG that follows the page's colours, light or dark. No text in them is a user's."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cairn_client.report.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholders that matplotlib paints with; each becomes a CSS variable of the page.
_INK, _GRID = "#010101", "#020202"
_COLOURS = {
    _INK: "var(--ink-2)",
    _GRID: "var(--line)",
    "#030303": "var(--blue)",
    "#040404": "var(--orange)",
    "#050505": "var(--green)",
    "#060606": "var(--red)",
}
BLUE, ORANGE, GREEN, RED = list(_COLOURS)[2:]


def figure(
    draw: Callable[[Axes], None], *, title: str, x: str, y: str, percent: bool = False, height: float = 3.0
) -> str:
    """One plot as an `<svg>` element. `draw` paints on the axes with the colours of this module."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": title,
            "text.parse_math": False,
            "font.family": "sans-serif",
            "font.size": 9,
        }
    ):
        canvas = Figure(figsize=(5.6, height), layout="constrained")
        axes = canvas.add_subplot()
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(_GRID)
        axes.grid(axis="y", color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_INK, length=0)
        axes.set_xlabel(x, color=_INK)
        axes.set_ylabel(y, color=_INK)
        draw(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, labelcolor=_INK)
        buffer = io.StringIO()
        canvas.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title}
        )
    return _inline(buffer.getvalue(), title)


def _inline(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{title}"', svg, count=1)
    for placeholder, colour in _COLOURS.items():
        svg = svg.replace(placeholder, colour)
    return svg


def progress_figure(history: History, items: int, *, with_truth: bool) -> str:
    """Accuracy (or mean confidence) and coverage against the answers that people gave."""
    points = history.points
    answers = [point.answers for point in points]

    def draw(axes: Axes) -> None:
        axes.plot(answers, [p.labeled / max(1, items) for p in points], color=BLUE, label="items labeled")
        if any(p.auto for p in points):
            axes.fill_between(
                answers, [p.auto / max(1, items) for p in points], color=GREEN, alpha=0.25, linewidth=0
            )
            axes.plot(
                answers, [p.auto / max(1, items) for p in points], color=GREEN, label="by a model alone"
            )
        quality: Sequence[float]
        if with_truth:
            quality = [p.right / p.judged if p.judged else float("nan") for p in points]
            axes.plot(answers, quality, color=ORANGE, label="accuracy of the labels")
        else:
            quality = [p.confidence if p.labeled else float("nan") for p in points]
            axes.plot(answers, quality, color=ORANGE, label="mean confidence")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)

    what = "Accuracy" if with_truth else "Confidence"
    return figure(draw, title=f"{what} and coverage", x="answers by people", y="", percent=True)


def redundancy_figure(history: History) -> str:
    """How many answers items took."""
    counts = list(history.answers_per_item.values())
    most = max(counts, default=1)

    def draw(axes: Axes) -> None:
        heights = [counts.count(number) for number in range(1, most + 1)]
        axes.bar(range(1, most + 1), heights, color=BLUE, width=0.8)

    return figure(draw, title="Answers per item", x="answers on an item", y="items")


def model_figure(history: History) -> str:
    """How each model version did on labels it had not seen."""
    tried = [(at, version) for at, version in history.versions if version.evaluation.labels]

    def draw(axes: Axes) -> None:
        at = [answers for answers, _ in tried]
        axes.plot(at, [v.evaluation.accuracy for _, v in tried], color=BLUE, linewidth=1)
        served = [(a, v.evaluation.accuracy) for a, v in tried if v.name in history.promoted]
        axes.scatter(
            [a for a, _ in served], [y for _, y in served], color=GREEN, s=28, zorder=3, label="put to work"
        )
        axes.set_xlim(left=0)

    return figure(
        draw, title="Model versions", x="answers by people", y="accuracy on unseen labels", percent=True
    )


def threshold_figure(history: History) -> str:
    """Coverage of the model alone, and the proven bound on its error, round by round."""
    sets = [(at, threshold) for at, threshold in history.thresholds if threshold.score <= 1]

    def draw(axes: Axes) -> None:
        at = [answers for answers, _ in sets]
        axes.step(at, [t.coverage for _, t in sets], where="post", color=GREEN, label="open items above it")
        axes.step(
            at, [t.error_upper_bound for _, t in sets], where="post", color=RED, label="bound on their error"
        )
        axes.axhline(sets[-1][1].alpha, color=RED, linewidth=0.8, linestyle=":", label="alpha")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)

    return figure(draw, title="Threshold", x="answers by people", y="", percent=True)


def reliability_figure(accuracies: Sequence[tuple[float, float, float]]) -> str:
    """Labelers' expected accuracies with their 95% intervals `(accuracy, low, high)`, best first."""
    ranked = sorted(accuracies, reverse=True)

    def draw(axes: Axes) -> None:
        places = range(1, len(ranked) + 1)
        axes.vlines(places, [low for _, low, _ in ranked], [high for _, _, high in ranked], color=_GRID)
        axes.scatter(places, [accuracy for accuracy, _, _ in ranked], color=BLUE, s=10, zorder=3)
        axes.set_ylim(0, 1.02)

    return figure(
        draw, title="Reliability of labelers", x="labelers, best first", y="expected accuracy", percent=True
    )

"""Curves as SVG files that differ only where their figures do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

_STYLE: Any = {"svg.hashsalt": "lorikeet", "svg.fonttype": "none", "font.size": 11}
_INCHES = (7.2, 4.2)


def line_plot(
    path_svg: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    log_x: bool = False,
    floor: str | None = None,
) -> None:
    """Writes `path_svg`: a line for each series of points (x, y), y from 0.

    `floor` names the series that nothing can pass, drawn dashed and grey. With `log_x` steps
    between the x of the points are equal where their ratios are, and only they are labelled.
    """
    assert floor is None or floor in series, f"no series is named {floor}"
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=x_label, ylabel=y_label)
        for name, points in series.items():
            xs, ys = [x for x, _ in points], [y for _, y in points]
            if name == floor:
                axes.plot(xs, ys, label=name, color="grey", linestyle="--")
            else:
                axes.plot(xs, ys, label=name, marker="o")
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(sorted({x for points in series.values() for x, _ in points}))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
        axes.set_ylim(0, 1.1 * max(y for points in series.values() for _, y in points))
        axes.grid(visible=True, alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False)
        path_svg.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path_svg, format="svg", metadata={"Date": None})

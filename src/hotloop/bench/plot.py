# matplotlib leaves its keyword arguments untyped:
# pyright: reportUnknownMemberType=false
"""Draws a bench's charts into a file. matplotlib comes with `hotloop[bench]` and is imported only here, when asked for."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from hotloop.bench.answers import BenchError
from hotloop.bench.chart import Bars, Chart, Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png")
_WIDTH, _HEIGHT = 7.0, 4.2  # inches of one chart
_COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774", "#cb912f", "#337ea9")


def check_plot(path: Path) -> None:
    """Raise BenchError if nothing could be drawn into `path`: told before the measuring, not after it."""
    if path.suffix not in SUFFIXES:
        raise BenchError(f"--plot {path}: the file's name must end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"--plot {path}: there is no such folder")
    if find_spec("matplotlib") is None:
        raise BenchError("--plot needs matplotlib: pip install 'hotloop[bench]'")


def draw(path: Path, charts: Sequence[Chart], caption: str) -> None:
    """Write the charts, one above the other, with the caption below. The same data makes the same file."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "hotloop", "svg.fonttype": "none", "font.size": 9}):
        heights = [max(1.0, len(chart.bars) / 12) if isinstance(chart, Bars) else 1.0 for chart in charts]
        figure = Figure((_WIDTH, _HEIGHT * sum(heights)), layout="constrained")
        grid = figure.subplots(len(charts), 1, squeeze=False, height_ratios=heights)
        for axes, chart in zip(grid.flat, charts, strict=True):
            _draw_lines(axes, chart) if isinstance(chart, Lines) else _draw_bars(axes, chart)
        figure.supxlabel(caption, fontsize=6, color="#787774")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=120)


def _draw_lines(axes: "Axes", chart: Lines) -> None:
    for (name, points), colour in zip(chart.curves.items(), cycle(_COLOURS)):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.3, color=colour, label=name)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label, xscale="log", yscale="log")
    axes.grid(visible=True, color="#e3e2e0", linewidth=0.6)
    axes.legend(fontsize=7, frameon=False)


def _draw_bars(axes: "Axes", chart: Bars) -> None:
    left = [0.0] * len(chart.bars)
    places = range(len(chart.bars))
    for (name, lengths), colour in zip(chart.parts.items(), cycle(_COLOURS)):
        axes.barh(places, lengths, left=left, color=colour, label=name)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    axes.set(title=chart.title, xlabel=chart.x_label)
    axes.set_yticks(places, chart.bars, fontsize=7)
    axes.invert_yaxis()
    axes.legend(fontsize=7, frameon=False)

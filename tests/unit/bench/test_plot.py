from pathlib import Path

import pytest

from hotloop.bench.answers import BenchError
from hotloop.bench.chart import Bars, Chart, Lines
from hotloop.bench.plot import check_plot, draw

LINES = Lines("cost", "tokens", "µs", {"hot": [(1_000, 2.0), (200_000, 2.1)], "cold": [(1_000, 3.0), (200_000, 400.0)]})
BARS = Bars("a rollout", "seconds", ["http", "websocket"], {"engine": [1.0, 1.0], "server": [0.5, 0.01]})


def test_every_curve_bar_and_part_stands_in_the_drawing_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    draw(path, [LINES, BARS], "on some machine")
    text = path.read_text()
    for name in ("hot", "cold", "cost", "engine", "server", "http", "websocket", "on some machine"):
        assert f">{name}</text>" in text


@pytest.mark.parametrize("chart", [LINES, BARS])
def test_the_same_data_draws_the_same_file(chart: Chart, tmp_path: Path) -> None:
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in files:
        draw(path, [chart], "")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_png_is_a_png(tmp_path: Path) -> None:
    draw(tmp_path / "plot.png", [BARS], "")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "reason"), [("plot.jpg", ".svg or .png"), ("gone/plot.svg", "no such folder")])
def test_what_cannot_be_drawn_is_told_before_the_measuring(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=reason):
        check_plot(tmp_path / name)


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(name: str) -> None:
        assert name == "matplotlib"

    monkeypatch.setattr("hotloop.bench.plot.find_spec", find_none)
    with pytest.raises(BenchError, match=r"pip install 'hotloop\[bench\]'"):
        check_plot(tmp_path / "plot.svg")

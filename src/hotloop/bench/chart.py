"""What a bench has to show as a picture: plain data, drawn by `plot`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over a common axis, both axes logarithmic: each a name and its points."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars made of parts. `parts` maps a part's name to its length in every bar."""

    title: str
    x_label: str
    bars: Sequence[str]
    parts: Mapping[str, Sequence[float]]


Chart = Lines | Bars

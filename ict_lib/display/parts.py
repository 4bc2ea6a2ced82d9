"""What an Explorer is made of: sliders, panels with their marks, and readouts; what cannot be shown is a ValueError.

Arrays follow one convention: the leading axes are the sliders' (as long as the slider has positions, or 1 where nothing
depends on it), the last axis holds the points. A plain 1-D array belongs to every position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ict_lib.checks import require, require_known

SCALES = ("linear", "count", "log")
NUM_COLORS = 6


def _check_range(name: str, limits: tuple[float, float] | None, scale: str) -> None:
    """Refuse a range that does not ascend, or that its scale cannot show."""
    require_known(f"{name}_scale", scale, SCALES)
    ascends = limits is None or (len(limits) == 2 and np.all(np.isfinite(limits)) and limits[0] < limits[1])
    require(ascends, f"{name}_range", limits, "(low, high), finite, with low < high,")
    require(limits is None or scale != "log" or limits[0] > 0, f"{name}_range", limits, "low > 0 on a log scale")


@dataclass(frozen=True, eq=False)
class Slider:
    """One slider."""

    label: str  # what the reader changes
    values: Sequence[Any] | np.ndarray  # one entry a position, numbers or words, 2 or more, in any order
    start: int = 0  # the position shown at first, from 0
    text: Sequence[str] | None = None  # what is shown for each position; the values themselves where None

    def __post_init__(self) -> None:
        name, texts = f"slider {self.label!r}", self.count if self.text is None else len(self.text)
        require(self.count >= 2, f"number of positions of {name}", self.count, "2 or more")
        require(0 <= self.start < self.count, f"start of {name}", self.start, f"0 to {self.count - 1}")
        require(texts == self.count, f"number of texts of {name}", texts, f"{self.count}, one a value,")

    @property
    def count(self) -> int:
        """Number of positions."""
        return len(self.values)

    def shown(self) -> list[str]:
        """Text of each position."""
        if self.text is not None:
            return [str(text) for text in self.text]
        values = np.asarray(self.values)
        numeric = np.issubdtype(values.dtype, np.floating)
        return [f"{value:.3g}" if numeric else str(value) for value in values.tolist()]


@dataclass(frozen=True, eq=False)
class Curve:
    """What Line, Points and Area have in common."""

    x: ArrayLike  # shape ``[points]`` or ``[*sliders, points]``
    y: ArrayLike  # as ``x``; NaN leaves a gap
    label: str = ""  # the legend's text; no entry where empty
    # 0 to 5, a place in the palette; by order within the panel where None
    color: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        fits = self.color is None or 0 <= self.color < NUM_COLORS
        require(fits, "color", self.color, f"None or one of 0 to {NUM_COLORS - 1}")


@dataclass(frozen=True, eq=False)
class Line(Curve):
    """A line through points, perhaps ``dashed``."""

    dashed: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class Points(Curve):
    """Dots of diameter ``size``, in pixels."""

    size: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size > 0, "size", self.size, "a positive number of pixels")


@dataclass(frozen=True, eq=False)
class Area(Curve):
    """The area between ``y`` and ``low``, one number or as ``y``: a density, or a band; a log axis ends it below."""

    low: ArrayLike = field(default=0.0, kw_only=True)


@dataclass(frozen=True, eq=False)
class Image:
    """A picture drawn crisp, for example a grid of samples; alone in its panel."""

    # shape ``[rows, columns]`` or ``[*sliders, rows, columns]``; of a coloured one ``[..., 3]`` after that
    pixels: ArrayLike
    value_range: tuple[float, float] = (-1.0, 1.0)  # the values shown black and white; what lies outside is clipped
    colored: bool = False  # red, green and blue instead of grey

    def __post_init__(self) -> None:
        _check_range("value", self.value_range, "linear")


Mark = Line | Points | Area | Image


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture: marks on shared axes."""

    marks: Sequence[Mark]  # Line, Points and Area in any number, or one Image
    title: str = ""  # a line above the picture, also its name for screen readers
    x_label: str = ""  # what the horizontal axis shows
    y_label: str = ""  # what the vertical axis shows
    x_range: tuple[float, float] | None = None  # (low, high); from the data of all positions where None
    y_range: tuple[float, float] | None = None  # as ``x_range``
    x_scale: str = "linear"  # "linear", "count" (the same, with whole numbers), or "log"
    y_scale: str = "linear"  # as ``x_scale``
    square: bool = False  # whether the plot is as high as it is wide

    def __post_init__(self) -> None:
        kinds = [type(mark).__name__ for mark in self.marks]
        known = bool(kinds) and all(isinstance(mark, Mark) for mark in self.marks)
        require(known, "marks", kinds, "one or more of Line, Points, Area, Image")
        require("Image" not in kinds or len(kinds) == 1, "marks", kinds, "an Image alone in its panel")
        _check_range("x", self.x_range, self.x_scale)
        _check_range("y", self.y_range, self.y_scale)


@dataclass(frozen=True, eq=False)
class Readout:
    """One number or word for each slider position."""

    label: str  # what it is
    values: ArrayLike  # shape ``[*sliders]``, or one value
    text_format: str = "{:.3g}"  # how a value is written, as in ``str.format``

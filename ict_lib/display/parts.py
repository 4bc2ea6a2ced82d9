"""What an Explorer is made of: sliders, panels with their marks, and readouts.

Arrays follow one convention: the leading axes are the sliders' (as long as the slider has positions, or 1
where nothing depends on it), the last axis holds the points. A plain 1-D array belongs to every position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SCALES = ("linear", "log")
NUM_COLORS = 6


def _check_range(name: str, limits: tuple[float, float] | None, scale: str) -> None:
    """Refuse a range that does not ascend, or that its scale cannot show."""
    if scale not in SCALES:
        raise ValueError(f"{name}_scale is {scale!r}; it must be one of {SCALES}")
    if limits is None:
        return
    if len(limits) != 2 or not np.all(np.isfinite(limits)) or not limits[0] < limits[1]:
        raise ValueError(f"{name}_range is {limits!r}; it must be (low, high), finite, with low < high")
    if scale == "log" and limits[0] <= 0:
        raise ValueError(f"{name}_range is {limits!r}; a log scale needs low > 0")


@dataclass(frozen=True, eq=False)
class Slider:
    """One slider.

    Args:
        label: what the reader changes.
        values: one entry a position, numbers or words, 2 or more, in any order.
        start: the position shown at first, from 0.
        text: what is shown for each position; the values themselves where None.

    Raises:
        ValueError: if there are fewer than 2 positions, ``start`` is none, or ``text`` differs in length.
    """

    label: str
    values: Sequence[Any] | np.ndarray
    start: int = 0
    text: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"slider {self.label!r} has {self.count} positions; it needs 2 or more")
        if not 0 <= self.start < self.count:
            raise ValueError(f"slider {self.label!r} starts at {self.start}; it must be 0 to {self.count - 1}")
        if self.text is not None and len(self.text) != self.count:
            raise ValueError(f"slider {self.label!r} has {len(self.text)} texts; it needs {self.count}, one a value")

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
    """What Line, Points and Area have in common.

    Args:
        x: shape ``[points]`` or ``[*sliders, points]``.
        y: as ``x``; NaN leaves a gap.
        label: the legend's text; no entry where empty.
        color: 0 to 5, a place in the palette; by order within the panel where None.

    Raises:
        ValueError: if ``color`` is outside of the palette.
    """

    x: ArrayLike
    y: ArrayLike
    label: str = ""
    color: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.color is not None and not 0 <= self.color < NUM_COLORS:
            raise ValueError(f"color is {self.color!r}; it must be None or one of 0 to {NUM_COLORS - 1}")


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
        if not self.size > 0:
            raise ValueError(f"size is {self.size!r}; it must be positive, in pixels")


@dataclass(frozen=True, eq=False)
class Area(Curve):
    """The area between ``y`` and ``low``, one number or as ``y``: a density, or a band; a log axis ends it below."""

    low: ArrayLike = field(default=0.0, kw_only=True)


@dataclass(frozen=True, eq=False)
class Image:
    """A picture drawn crisp, for example a grid of samples; alone in its panel.

    Args:
        pixels: shape ``[rows, columns]`` or ``[*sliders, rows, columns]``; of a coloured one ``[..., 3]`` after that.
        value_range: the values shown black and white; what lies outside is clipped.
        colored: red, green and blue instead of grey.

    Raises:
        ValueError: if ``value_range`` does not ascend.
    """

    pixels: ArrayLike
    value_range: tuple[float, float] = (-1.0, 1.0)
    colored: bool = False

    def __post_init__(self) -> None:
        _check_range("value", self.value_range, "linear")


Mark = Line | Points | Area | Image


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture: marks on shared axes.

    Args:
        marks: Line, Points and Area in any number, or one Image.
        title: a line above the picture, also its name for screen readers.
        x_label: what the horizontal axis shows.
        y_label: what the vertical axis shows.
        x_range: (low, high); from the data of all positions where None.
        y_range: as ``x_range``.
        x_scale: "linear" or "log".
        y_scale: as ``x_scale``.
        square: whether the plot is as high as it is wide.

    Raises:
        ValueError: if there is no mark, an Image is not alone, or a scale or range is not possible.
    """

    marks: Sequence[Mark]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_scale: str = "linear"
    y_scale: str = "linear"
    square: bool = False

    def __post_init__(self) -> None:
        kinds = [type(mark).__name__ for mark in self.marks]
        if not kinds or not all(isinstance(mark, Mark) for mark in self.marks):
            raise ValueError(f"marks are {kinds}; they must be one or more of Line, Points, Area, Image")
        if "Image" in kinds and len(kinds) > 1:
            raise ValueError(f"marks are {kinds}; an Image must stand alone in its panel")
        _check_range("x", self.x_range, self.x_scale)
        _check_range("y", self.y_range, self.y_scale)


@dataclass(frozen=True, eq=False)
class Readout:
    """One number or word for each slider position.

    Args:
        label: what it is.
        values: shape ``[*sliders]``, or one value.
        text_format: how a value is written, as in ``str.format``.
    """

    label: str
    values: ArrayLike
    text_format: str = "{:.3g}"

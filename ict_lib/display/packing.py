"""Turns an Explorer's parts into one JSON specification and one block of bytes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ict_lib.checks import require
from ict_lib.display.parts import Area, Image, Mark, Panel, Points, Readout, Slider


def align(name: str, array: ArrayLike, counts: Sequence[int], tail: int) -> np.ndarray:
    """Give an array one leading axis a slider, each as long as ``counts`` says, or 1.

    The last ``tail`` axes belong to one position; an array that has these alone is static. Another shape, or an empty
    position, is a ValueError that says the array's name.
    """
    array = np.asarray(array)
    shape = array.shape
    if array.ndim == tail:
        array = array.reshape((1,) * len(counts) + shape)
    leading = array.shape[: len(counts)]
    fits = array.ndim == len(counts) + tail and all(n in (1, count) for n, count in zip(leading, counts, strict=True))
    rule = f"{tail} axes, or leading axes of length {tuple(counts)} (or 1) before them, none of them empty,"
    require(fits and array.size > 0, f"shape of {name}", shape, rule)
    return array


def gaps_of(white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that are white from edge to edge, of ``[rows, columns]``: what lies between tiles."""
    return np.flatnonzero(white.all(axis=1)), np.flatnonzero(white.all(axis=0))


class Packer:
    """Collects arrays into one block of bytes, each array once."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._size = 0

    def add(self, array: np.ndarray) -> dict[str, object]:
        """Append an array of any shape; uint8 stays, all else becomes little-endian float32.

        It returns where it lies: ``kind`` ("f4" or "u1"), ``offset`` in bytes (a multiple of 4) and ``shape``.
        """
        kind = "u1" if array.dtype == np.uint8 else "f4"
        block = np.ascontiguousarray(array, dtype="<f4" if kind == "f4" else "u1").tobytes()
        key = (kind, array.shape, block)
        if key not in self._blocks:
            self._blocks[key] = self._size
            self._size += len(block) + -len(block) % 4
        return {"kind": kind, "offset": self._blocks[key], "shape": list(array.shape)}

    def to_bytes(self) -> bytes:
        """Everything added, one after the other."""
        return b"".join(block + bytes(-len(block) % 4) for _, _, block in self._blocks)


def _numbers(name: str, values: ArrayLike, counts: Sequence[int], scale: str) -> np.ndarray:
    """Align a curve's values, and refuse what its scale cannot show."""
    array = align(name, values, counts, 1).astype(np.float64)
    with np.errstate(over="ignore"):
        if np.isinf(array.astype(np.float32)).any():
            raise ValueError(f"{name} holds an infinite value; values must be finite, or NaN for a gap")
    if scale == "log" and (array <= 0).any():
        raise ValueError(f"{name} goes down to {np.nanmin(array):g}; a log scale needs values > 0, or NaN for a gap")
    return array  # [*sliders, points]


def _curves(name: str, mark: Mark, panel: Panel, counts: Sequence[int]) -> dict[str, np.ndarray]:
    """Gather the arrays of one mark, ``[*sliders, points]`` each."""
    arrays = {
        "x": _numbers(f"{name} x", mark.x, counts, panel.x_scale),
        "y": _numbers(f"{name} y", mark.y, counts, panel.y_scale),
    }
    if isinstance(mark, Area):
        low = np.asarray(mark.low, dtype=np.float64)
        low = np.full(arrays["y"].shape[-1], low) if low.ndim == 0 else low
        arrays["low"] = _numbers(f"{name} low", low, counts, "linear")
    points = {key: array.shape[-1] for key, array in arrays.items()}
    require(len(set(points.values())) == 1, f"{name} points", points, "the same number of all")
    return arrays


def _limits(name: str, arrays: list[np.ndarray], scale: str, margin: float) -> list[float]:
    """Take an axis's range from all values of all positions."""
    values = np.concatenate([array.ravel() for array in arrays])
    values = values[np.isfinite(values) & ((values > 0) | (scale == "linear"))]
    require(values.size > 0, f"number of {name} values to take a range from", 0, f"one or more, or {name}_range,")
    ends = np.array([values.min(), values.max()])
    ends = np.log(ends) if scale == "log" else ends
    if ends[0] == ends[1]:
        margin, ends = 0.0, ends + np.array([-0.5, 0.5]) * (abs(ends[0]) or 1.0)
    ends = ends + np.array([-1, 1]) * margin * (ends[1] - ends[0])
    return [float(end) for end in (np.exp(ends) if scale == "log" else ends)]


def _style(mark: Mark, order: int) -> dict[str, object]:
    """Say how a mark is drawn."""
    style = {"label": mark.label, "color": order if mark.color is None else mark.color}
    own = {key: getattr(mark, key) for key in ("dashed", "size") if hasattr(mark, key)}
    return style | own | {"mark": type(mark).__name__.lower()}


def _image(name: str, image: Image, counts: Sequence[int], packer: Packer) -> dict[str, object]:
    """Turn pixels into 8-bit levels."""
    pixels = align(name, image.pixels, counts, 3 if image.colored else 2).astype(np.float64)
    colours = pixels.shape[-1] if image.colored else 3
    require(colours == 3, f"number of colours of {name}", colours, "red, green and blue, 3,")
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name} holds a value that is not finite; all must be finite")
    low, high = image.value_range
    levels = np.clip((pixels - low) / (high - low), 0, 1) * 255
    levels = np.rint(levels).astype(np.uint8)
    white = (levels if image.colored else levels[..., None]) == 255  # [*sliders, rows, columns, colours]
    gaps = [found.tolist() for found in gaps_of(white.all(axis=(*range(len(counts)), -1)))]
    return {"mark": "image", "colored": image.colored, "gaps": gaps, "pixels": packer.add(levels)}


def _panel(number: int, panel: Panel, counts: Sequence[int], packer: Packer) -> dict[str, object]:
    """Describe one panel."""
    name = f"panel {panel.title or number + 1!r}"
    spec = {key: getattr(panel, key) for key in ("title", "x_label", "y_label", "x_scale", "y_scale", "square")}
    if isinstance(panel.marks[0], Image):
        return spec | {"marks": [_image(f"{name}, pixels", panel.marks[0], counts, packer)]}
    curves = [_curves(f"{name}, mark {i + 1},", mark, panel, counts) for i, mark in enumerate(panel.marks)]
    margin = 0.04 if any(isinstance(mark, Points) for mark in panel.marks) else 0.0
    heights = [array for curve in curves for key, array in curve.items() if key != "x"]
    x_range = panel.x_range or _limits("x", [curve["x"] for curve in curves], panel.x_scale, margin)
    y_range = panel.y_range or _limits("y", heights, panel.y_scale, 0.04)
    marks = [
        _style(mark, i) | {key: packer.add(array) for key, array in curve.items()}
        for i, (mark, curve) in enumerate(zip(panel.marks, curves, strict=True))
    ]
    return spec | {"x_range": list(map(float, x_range)), "y_range": list(map(float, y_range)), "marks": marks}


def _readout(readout: Readout, counts: Sequence[int]) -> dict[str, object]:
    """Write the values of a readout."""
    values = align(f"readout {readout.label!r}", readout.values, counts, 0)
    texts = [readout.text_format.format(value) for value in values.ravel().tolist()]
    return {"label": readout.label, "shape": list(values.shape), "text": texts}


def describe(
    sliders: Sequence[Slider], panels: Sequence[Panel], readouts: Sequence[Readout], caption: str
) -> tuple[dict[str, object], bytes]:
    """Check all parts and pack them: a specification, of JSON types only, and the bytes that it points into.

    A number of parts, a shape or a value that is not possible is a ValueError.
    """
    require(1 <= len(sliders) <= 2, "number of sliders", len(sliders), "1 or 2")
    require(len(panels) > 0, "number of panels", len(panels), "1 or more")
    counts = [slider.count for slider in sliders]
    packer = Packer()
    spec = {
        "caption": caption,
        "sliders": [{"label": slider.label, "text": slider.shown()} for slider in sliders],
        "panels": [_panel(i, panel, counts, packer) for i, panel in enumerate(panels)],
        "readouts": [_readout(readout, counts) for readout in readouts],
    }
    return spec, packer.to_bytes()

"""The book's one widget: sliders move pictures that were computed beforehand.

Python computes the arrays of every slider position; the browser only indexes and draws. So the same widget
lives on the rendered page, where no Python runs, and in JupyterLab, where ``index`` is in step with Python.
"""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from ict_lib.checks import require
from ict_lib.display.packing import describe
from ict_lib.display.parts import Area, Image, Line, Panel, Points, Readout, Slider

__all__ = ["Area", "Explorer", "Image", "Line", "Panel", "Points", "Readout", "Slider"]

PARTS = ("explorer_scales.js", "explorer_drawing.js", "explorer_parts.js")


def module(*names: str) -> str:
    """Join files of this folder into one module for the browser, in the order in which they need each other."""
    return "\n".join(Path(__file__).with_name(name).read_text("utf8") for name in names)


class Explorer(anywidget.AnyWidget):
    """A figure with one or two sliders, panels side by side where there is room, and readouts for each position.

    A number of parts, a shape or a value that is not possible is a ValueError.

    Attributes:
        index: the position of each slider, from 0; setting it moves the picture.
        spec: what to draw, and where its arrays lie in ``data``.
        data: all arrays, float32 little-endian, images uint8.

    Example:
        >>> x = np.linspace(0, 1, 50)
        >>> powers = np.array([1, 2, 3])
        >>> Explorer(
        ...     sliders=[Slider("power p", values=powers)],
        ...     panels=[Panel([Line(x, x ** powers[:, None])], x_label="x", y_label="x to the power p")],
        ...     caption="The curve bends more as p grows.",
        ... )
    """

    _esm = module(*PARTS, "explorer.js")
    _css = module("explorer.css")

    index = traitlets.List(traitlets.Int()).tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        sliders: Sequence[Slider],
        panels: Sequence[Panel],
        readouts: Sequence[Readout] = (),
        caption: str = "",
    ) -> None:
        spec, data = describe(sliders, panels, readouts, caption)
        super().__init__(spec=spec, data=data, index=[slider.start for slider in sliders])

    @traitlets.validate("index")
    def _check_index(self, proposal: dict) -> list[int]:
        index = list(proposal["value"])
        counts = [len(slider["text"]) for slider in self.spec.get("sliders", [])]
        fits = len(index) == len(counts) and all(0 <= i < n for i, n in zip(index, counts, strict=True))
        require(fits or not counts, "index", index, f"{len(counts)} numbers, from 0 to below {counts},")
        return index

    def __repr__(self) -> str:
        """Name the sliders and the caption, for viewers that show text only."""
        lines = ["Explorer: an interactive figure, shown on the book's pages and in JupyterLab"]
        for slider in self.spec.get("sliders", []):
            texts = slider["text"]
            lines.append(f"  slider: {slider['label']}, {len(texts)} positions, {texts[0]} to {texts[-1]}")
        lines += [f"  caption: {self.spec['caption']}"] if self.spec.get("caption") else []
        return "\n".join(lines)

"""A model that lives on the page: its weights go along, and the browser computes f(x, sigma) itself.

``python -m ict_lib live digits/live`` keeps a run's weights for it, in half precision, as a file that is in git. Where
that is missing there is a FileNotFoundError with this command; where it is damaged, a ValueError.
"""

import base64
import html
import json
from pathlib import Path
from typing import Any

import anywidget
import safetensors.torch
import traitlets
from IPython.display import HTML, display
from safetensors import SafetensorError, safe_open

from ict_lib.checks import require, require_known
from ict_lib.consistency import ConsistencyModel
from ict_lib.display.explorer import PARTS, module
from ict_lib.exact.mixture import Mixture
from ict_lib.files import results_folder
from ict_lib.networks.mlp import ResidualMLP

MOST_BYTES = 700_000  # of the weights that a page carries
VIEWS = ("sheet", "repair", "point")


def kept(name: str) -> Path:
    """Say where the weights of a run are kept for a page."""
    return results_folder(name) / "half.safetensors"


def read_half(name: str) -> tuple[bytes, dict[str, Any]]:
    """Read the kept weights of a run, and what the file says about them: ``shape``, ``sigma_data`` and the like."""
    path = kept(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `python -m ict_lib live {name}` writes it after the run")
    try:
        with safe_open(path, "pt") as file:
            return path.read_bytes(), json.loads((file.metadata() or {})["about"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or was not written by `python -m ict_lib live`: {error}") from None


def half_model(name: str) -> ConsistencyModel:
    """Build the model that the browser computes: the kept weights, in float32 again, in evaluation mode."""
    content, about = read_half(name)
    state = safetensors.torch.load(content)
    blocks = sum(key.endswith("enter.weight") for key in state)
    network = ResidualMLP(tuple(about["shape"]), 1.0, width=len(state["network.first.bias"]), blocks=blocks)
    model = ConsistencyModel(network, about["sigma_data"], about["sigma_min"])
    model.load_state_dict(state)
    return model.eval()


class LiveModel(anywidget.AnyWidget):
    """A figure that computes a trained model in the browser.

    The view ``sheet`` draws images in one step and in two; ``repair`` fills in what the reader rubs out of an image;
    ``point`` follows a point of the plane along its exact trajectory, known from the ``mixture``. ``still`` is a PNG
    for readers without JavaScript. An unknown view, or one that does not fit the data of the run, is a ValueError.
    """

    _esm = module(*PARTS, "live_model.js", "live_view.js")
    _css = module("explorer.css", "live_view.css")

    spec = traitlets.Dict().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)  # the kept file

    def __init__(
        self, name: str, view: str = "sheet", mixture: Mixture | None = None, caption: str = "", still: bytes = b""
    ) -> None:
        require_known("view", view, VIEWS)
        data, about = read_half(name)
        shape, of_points = about["shape"], view == "point"
        fits = shape == [2] if of_points else len(shape) == 3 and shape[0] == 1
        require(fits, f"shape of one sample for view {view!r}", shape, "[2]" if of_points else "[1, height, width]")
        dims = mixture and mixture.means.shape[1]
        rule = "2 for the view 'point', None (no mixture) for the others,"
        require(dims == (2 if of_points else None), "dimensions of the mixture", dims, rule)
        spec = about | {"view": view, "caption": caption}
        if of_points:
            spec["mixture"] = {key: getattr(mixture, key).tolist() for key in ("weights", "means", "stds")}
        self._still = still
        super().__init__(spec=spec, data=data)

    def _ipython_display_(self) -> None:
        """Show the figure; behind it, for pages without JavaScript, the still picture with its caption."""
        display(self._repr_mimebundle_()[0], raw=True)
        picture, caption = base64.b64encode(self._still).decode(), html.escape(self.spec["caption"])
        image = f'<img src="data:image/png;base64,{picture}" alt="{caption}">' if picture else ""
        display(HTML(f"<noscript><figure>{image}<figcaption>{caption}</figcaption></figure></noscript>"))

    def __repr__(self) -> str:
        """Say what it is, for viewers that show text only."""
        return f"LiveModel: an interactive figure, view {self.spec['view']!r}\n  caption: {self.spec['caption']}"

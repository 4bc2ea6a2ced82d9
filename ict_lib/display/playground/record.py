"""What every recipe of the playground ends with, by its own JavaScript in node: the table that its chapter quotes.

``python -m ict_lib.display.playground.record`` makes ``runs/playground.json``, in about 20 minutes on one core; rows
that are there are kept.
"""

import json
import sys
from pathlib import Path

from ict_lib.display.playground import run_node, train
from ict_lib.files import write_atomically

ELSEWHERE = ("CT-tuned", "iCT")  # on the other data too; all presets on the ring
SEEDS = (0, 1, 2)


def main() -> None:
    """Make the rows that are missing, and write the file after each."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/playground.json")
    rows = json.loads(path.read_text("utf8")) if path.exists() else []
    presets, toys = run_node(
        """import { PRESETS } from "./recipe.js"; import { TOYS } from "./toy.js";
        result = [PRESETS.map(([key]) => key), Object.keys(TOYS)];""",
        {},
    )
    wanted = [(preset, toys[0]) for preset in presets] + [(preset, toy) for toy in toys[1:] for preset in ELSEWHERE]
    there = {(row["preset"], row["data"], row["seed"]) for row in rows}
    for preset, data, seed in [(*pair, seed) for pair in wanted for seed in SEEDS]:
        if (preset, data, seed) not in there:
            rows.append(row(preset, data, seed))
            write_atomically(path, ("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode())
            print(rows[-1], flush=True)


def row(preset: str, data: str, seed: int) -> dict[str, str | int | float]:
    """Train once, and keep what the page shows at the end."""
    run = train(preset, data, seed)
    _, one, two = run["distances"][-1]
    found = {"one_step": one, "two_steps": two, "floor": run["floor"], "loss": run["losses"][-1][1]}
    return {"preset": preset, "data": data, "seed": seed} | {name: float(f"{v:.4g}") for name, v in found.items()}


if __name__ == "__main__":
    main()

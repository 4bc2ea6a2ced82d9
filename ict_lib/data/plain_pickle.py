"""Pickles of plain values and NumPy arrays: anything else in them is refused, nothing is executed."""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

# What NumPy writes: how an array and a number are put together again. Its modules were renamed once.
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): np.int64(0).__reduce__()[0] for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0] for core in ("core", "_core")},
}


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names in ``ALLOWED`` and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle asks for by name, or refuse."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which plain data do not need")
        return ALLOWED[module, name]


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and NumPy arrays, of Python 2 or 3.

    Source: own; the restriction is that of Python's documentation of ``pickle``, "Restricting Globals".

    Args:
        path: the file.

    Returns:
        The dictionary; keys are text.

    Raises:
        ValueError: if the file holds something else, asks for anything but arrays, or is damaged.
    """
    try:
        with path.open("rb") as file:
            found = _PlainUnpickler(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path} is not a pickle of plain data: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a dictionary, got {type(found).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}

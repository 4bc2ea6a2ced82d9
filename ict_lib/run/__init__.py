"""Execute a run, and read what it leaves."""

from ict_lib.run.execute import execute

__all__ = ["execute"]

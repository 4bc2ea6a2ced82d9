"""Sampling from a consistency model."""

from ict_lib.sampling.consistency import sample

__all__ = ["sample"]

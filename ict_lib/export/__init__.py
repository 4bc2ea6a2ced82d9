"""Trained models as folders that other programs read; training needs none of this, and this needs no diffusers."""

from ict_lib.export.pipeline import load_pipeline, save_pipeline, timestep_of

__all__ = ["load_pipeline", "save_pipeline", "timestep_of"]

"""Trained models as folders that diffusers reads, each with a card; only writing one needs diffusers."""

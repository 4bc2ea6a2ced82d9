"""The name of a heading in a link to it, ``glossary.ipynb#stop-gradient``: the one that JupyterLab gives it."""


def anchor(heading: str) -> str:
    """JupyterLab's rule. Jupyter Book resolves links by it too (``myst_heading_slug_func`` in ``_config.yml``)."""
    return heading.replace(" ", "-")

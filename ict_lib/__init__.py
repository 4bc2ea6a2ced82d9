"""Improved consistency training (iCT), one file per technique of the paper.

Nothing is imported here: `import ict_lib` is instant, and training never loads Jupyter or matplotlib.

Source: [iCT] Song and Dhariwal, "Improved Techniques for Training Consistency Models", arXiv:2310.14189.
"""

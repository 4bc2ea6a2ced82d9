"""One file per improvement of the paper; each is a few pure functions. See `ict_lib.objective` for how they combine.

Where a recipe chooses by name, the file ends with `CHOICES`, its alternatives by those names. The embedding and dropout
are chosen by a number.
"""

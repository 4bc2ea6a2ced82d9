"""One file per improvement of the paper; each is a few pure functions. See `ict_lib.recipe` for how they combine."""

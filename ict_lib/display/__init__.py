"""All that a page shows: the one widget, plots, and the source of the library."""

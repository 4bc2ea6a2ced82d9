"""The interactive figures, one file a chapter, each built from exact quantities or from what a training left."""

"""The commands that measure: bench, eval, world, demo."""

"""What `cies bench` measures: speed of each part, methods, composers and re-ranking."""

"""The engine: one gallery, one question, and the hits that answer it."""

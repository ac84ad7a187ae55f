"""Vectors, tables, and the gallery on disk. Knows names and unit vectors, never a model."""

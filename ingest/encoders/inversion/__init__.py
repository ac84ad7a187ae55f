"""Textual inversion: images as pseudo-words."""

"""Filling a gallery: what is missing is embedded and committed."""

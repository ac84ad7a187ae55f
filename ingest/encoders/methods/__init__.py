"""The embedding methods."""

"""The gallery on disk: tables, writing, verification and repair."""

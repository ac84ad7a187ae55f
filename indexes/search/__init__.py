"""Vector search: tables in memory, indexes and their files."""

"""Galleries on disk, vector indexes, and exact and approximate search. Needs no model."""

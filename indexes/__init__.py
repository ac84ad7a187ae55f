# Part of CIES; the import of cies checks that no other distribution has replaced this file.
"""Galleries on disk, vector indexes, and exact and approximate search. Needs no model."""

# Part of CIES; the import of cies checks that no other distribution has replaced this file.
"""The engine: one gallery, one question, and the hits that answer it."""

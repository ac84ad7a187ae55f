# Part of CIES; the import of cies checks that no other distribution has replaced this file.
"""Data only, such as the prompt templates; read through ``importlib.resources``."""

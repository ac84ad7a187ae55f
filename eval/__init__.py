# Part of CIES; the import of cies checks that no other distribution has replaced this file.
"""Measures a gallery against labels: the rendered world, metrics, tasks and reports."""

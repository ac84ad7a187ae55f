"""Filters on columns."""

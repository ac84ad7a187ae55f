"""Facets, groups, duplicates, outliers and export."""

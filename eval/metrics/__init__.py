"""Metrics: definitions, ties, intervals and tests."""

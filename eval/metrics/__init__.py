"""Metrics: definitions, ties in expectation, chance levels, intervals and tests."""

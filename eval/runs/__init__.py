"""Runs of benchmarks: answers are stored first, measured, compared and reported later."""

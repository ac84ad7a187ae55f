"""Benchmarks of speed: both sides in one process, with sizes, versions and ratios."""

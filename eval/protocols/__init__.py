"""Published benchmarks by name: one loader module a family, files read as published."""

"""Published benchmarks, one module for each family."""

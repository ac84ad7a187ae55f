"""Benchmarks by name: each reads its published files and makes a task of them."""

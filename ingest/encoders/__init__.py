"""Encoders, one module a family of methods; ``factory`` makes them by name."""

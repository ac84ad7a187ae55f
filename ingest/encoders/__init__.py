"""Encoders: ``factory`` loads them by method name; each folder holds one kind."""

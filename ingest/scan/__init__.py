"""Scanning sources and planning an ingest."""

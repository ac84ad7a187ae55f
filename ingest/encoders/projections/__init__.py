"""Projections of CLIP vectors onto a condition."""

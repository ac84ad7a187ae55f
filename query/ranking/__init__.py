"""Ranking, score combination, fusion and re-ranking."""

"""Figures measured on this machine and kept for later estimates."""

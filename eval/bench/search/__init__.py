"""The search benchmark and what it compares with."""

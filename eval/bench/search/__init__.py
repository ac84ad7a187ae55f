"""The search benchmark and its baselines."""

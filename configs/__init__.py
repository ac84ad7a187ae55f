"""Data only, such as the prompt templates; read through ``importlib.resources``."""

"""Measures a gallery against labels: the rendered world, metrics, tasks and reports."""

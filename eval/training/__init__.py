"""The school of the built-in models: what makes them from nothing, on rendered pictures."""

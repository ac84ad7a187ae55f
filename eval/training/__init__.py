"""Training of the built-in models from random weights, on rendered pictures."""

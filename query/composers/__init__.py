"""Composed queries: a picture and the change one wants, as one question to a gallery."""

"""Reading and decoding image files."""

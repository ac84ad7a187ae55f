"""`cies bench`: runs the measurements and prints them."""

"""Models: names, locations, loading, and the error messages of loading."""

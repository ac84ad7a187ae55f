"""One module per published benchmark data set."""

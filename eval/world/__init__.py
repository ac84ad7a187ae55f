"""The rendered world: labelled pictures with independent factors, drawn on demand."""

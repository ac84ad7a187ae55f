"""The reports of ``cies bench``: what each benchmark prints."""

"""Chat templates: how a model is asked, rendered in a process with limits."""

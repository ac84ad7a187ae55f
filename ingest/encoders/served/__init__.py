"""Models that run in a server with an OpenAI-compatible interface."""

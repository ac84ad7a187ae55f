"""``cies mcp``: a gallery as a server of the Model Context Protocol, for assistants."""

"""Quality and cost of every method, for `cies methods` and docs/methods.md."""

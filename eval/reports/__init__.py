"""Reports on benchmark runs: values, Markdown and comparisons."""

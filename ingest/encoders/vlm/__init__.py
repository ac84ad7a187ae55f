"""Vision-language models: inputs, packed passes and generation."""

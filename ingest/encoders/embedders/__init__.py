"""Instruction-tuned embedders: the prompts that their publishers trained them with."""

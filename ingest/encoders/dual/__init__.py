"""Dual encoders: CLIP, SigLIP and open_clip models."""

"""Engines for the step of LoRA training: each equal to the whole model, running less of it."""

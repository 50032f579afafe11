"""Engines of a LoRA training step: the loss and gradient of the whole model, without the work they do not need."""

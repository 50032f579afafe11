"""Kernels: each has a reference in MLX operations, which is its meaning, and texts for Metal and CUDA beside it."""

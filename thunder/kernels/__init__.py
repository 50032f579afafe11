"""Kernels: each has a reference in MLX operations that defines its result, and source for Metal and CUDA."""

"""Photometric augmentation: one recipe, and its executors (tensor batches, one fused function, OpenCV)."""

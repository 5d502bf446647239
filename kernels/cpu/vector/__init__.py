"""Vectors as values in compiled code, their way to memory, and the mathematics of them."""

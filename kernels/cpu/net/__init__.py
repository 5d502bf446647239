"""Whole nets: the layout, the steps of training, inference."""

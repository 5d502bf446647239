"""Tiles: a few rows of a product at a time, and what is done to them or to rows while they are hot."""

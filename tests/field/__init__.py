"""Faults that users met, each with the right answer; named after what they did."""

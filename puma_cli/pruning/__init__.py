"""Cutting decoder layers out of a checkpoint, and proving that the rest still computes the same."""

"""Checking a cut with stock transformers, independently of how it was planned."""

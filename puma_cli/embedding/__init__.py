"""Inputs of any number in, a folder of vectors that can be searched out."""

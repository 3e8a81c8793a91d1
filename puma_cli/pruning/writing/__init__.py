"""From a plan to files: bytes copied, tensors cast, side files carried."""

"""A checkpoint as a folder on disk: its layout, headers, origin and description."""

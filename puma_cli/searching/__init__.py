"""Questions to an index that `puma embed` wrote."""

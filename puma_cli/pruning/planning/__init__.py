"""What a cut will do, decided from headers and config alone."""

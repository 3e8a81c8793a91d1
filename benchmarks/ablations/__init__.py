"""Which design choices earn their place: grids of trainings, their results, and tables of them."""

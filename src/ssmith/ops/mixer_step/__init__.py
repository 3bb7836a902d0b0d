"""One step of a whole Mamba mixer, its projections included."""

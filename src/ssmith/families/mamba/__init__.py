"""Mamba, Falcon-Mamba and Jamba: the forward, the tables of units, the layer as it is seen."""

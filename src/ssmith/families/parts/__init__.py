"""What mixers of several families share: caches, padding, hooks, convolutions."""

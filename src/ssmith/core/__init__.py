"""Nouns, errors, files and seeds: what every other room stands on."""

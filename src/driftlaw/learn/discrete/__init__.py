"""Masked diffusion of letters: categorical tables and sequences of characters."""

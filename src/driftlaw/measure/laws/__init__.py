"""Divergences between laws whose densities are known, with tail diagnosis."""

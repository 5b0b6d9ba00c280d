"""Distances between sets of samples, beside the floor of real against real."""

"""Exact laws at every time: Gaussian mixtures, kernel mixtures, and diffused laws built from them."""

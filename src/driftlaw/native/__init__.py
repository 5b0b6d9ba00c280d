"""Compiled passes: how they are built, checked and trusted, and the C++ beside them."""

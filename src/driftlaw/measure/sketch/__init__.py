"""Sketches: one pass over rows in constant memory to sums that merge."""

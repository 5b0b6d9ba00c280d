"""Measures of samples that carry labels."""

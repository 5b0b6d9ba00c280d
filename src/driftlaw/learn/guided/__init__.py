"""Negative guidance: a model pushed away from what it becomes when it trains on its own samples."""

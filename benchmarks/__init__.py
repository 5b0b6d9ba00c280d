"""Benchmarks: each module writes JSON with machine facts and measures its peer in the same process."""

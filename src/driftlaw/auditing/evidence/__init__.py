"""Tests and intervals behind an audit, from the sums of sketches alone."""

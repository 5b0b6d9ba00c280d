"""Figures of a report: pure functions from records to SVG."""

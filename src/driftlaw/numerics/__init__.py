"""Numerical ground rules: signs that no machine decides, finite rows, and how much memory a pass may take."""

"""The mixture study of the paper: exact, population-level and literal."""

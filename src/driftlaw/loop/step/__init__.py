"""One pure step of the recursion: what a generation learns from, how it learns, and what is measured of it."""

"""THE RECURSION: a validated study, one pure step, an iterator over a run directory, and sweeps of studies."""

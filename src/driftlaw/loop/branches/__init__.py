"""What becomes of a run later: more generations of it, and forks that share its past."""

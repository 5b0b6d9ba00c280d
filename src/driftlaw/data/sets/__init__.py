"""Public data sets: where they are looked for, how they are read, how they are fetched."""

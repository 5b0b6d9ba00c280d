"""Path measures: energies of the score error, observability, and its gradient part."""

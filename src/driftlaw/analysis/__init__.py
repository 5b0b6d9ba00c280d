"""WHAT A RUN SAYS: the bounds, identities and regime of a finished or growing run."""

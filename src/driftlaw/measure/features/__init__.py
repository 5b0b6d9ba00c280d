"""Feature spaces: encoders of raw rows, fitted maps, and networks."""

"""HOW FAR: divergences, set distances, path measures and innovations. Everything that leaves is an Estimate."""

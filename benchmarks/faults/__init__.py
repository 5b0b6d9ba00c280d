"""Every storage call fails once: what is left behind, and whether a documented command goes on from it."""

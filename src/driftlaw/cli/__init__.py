"""THE COMMAND LINE: one file per verb, no logic of its own."""

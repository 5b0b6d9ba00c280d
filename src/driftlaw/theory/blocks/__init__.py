"""How many rows: the size of each block by a rule, and the weights and the memory that follow from the sizes."""

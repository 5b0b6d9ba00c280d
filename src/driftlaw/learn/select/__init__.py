"""Selection: which of a model's samples the next model may train on."""

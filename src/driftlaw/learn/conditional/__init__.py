"""Models of labelled rows: what a network is told of a row's class, and how samples are guided to it."""

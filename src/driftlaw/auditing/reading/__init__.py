"""How sets are read so that they can be compared (``rule``), and what ``driftlaw data check`` says (``checking``)."""

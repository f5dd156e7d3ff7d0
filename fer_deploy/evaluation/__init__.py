"""How good and how fast a model form is, measured on real data."""

"""Measures how fast every model variant is, and compares and tunes."""

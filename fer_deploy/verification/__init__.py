"""Checks every model variant against Keras, and records what was measured."""

"""The 38-layer network, its recipes, its training on any Keras backend, and the report at the end."""

"""From a trained Keras model to a bundle."""

"""From a trained Keras model to a bundle of all variants."""

"""Videos: read as they stream, faces followed from picture to picture, probabilities smoothed over time."""

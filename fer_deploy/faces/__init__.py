"""Faces in photos: found by a small network, then cut out the way the classifier's network knows faces."""

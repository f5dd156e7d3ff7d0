"""Accuracy, calibration and duplicates, computed from predictions."""

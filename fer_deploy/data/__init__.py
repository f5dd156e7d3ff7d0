"""FER-2013: one reader for every form in which people have it, conversions, and a look at what is inside."""

from fer_deploy.data.fer2013 import PRIVATE, PUBLIC, TEST, TRAINING, BadRow, Fer2013, Partition
from fer_deploy.data.reader import load_fer2013

__all__ = ["PRIVATE", "PUBLIC", "TEST", "TRAINING", "BadRow", "Fer2013", "Partition", "load_fer2013"]

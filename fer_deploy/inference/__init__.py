"""From sources of pictures to emotions: the classifier, the streaming pipeline, and what results are written to."""

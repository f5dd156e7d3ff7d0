"""INT8 files: ``quantise`` makes them, the rest are its steps."""

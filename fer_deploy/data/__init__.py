"""FER-2013: read, inspected, converted; and the probe images."""

"""The machine, its files and processes: what everything else stands on."""

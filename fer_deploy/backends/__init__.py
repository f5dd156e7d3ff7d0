"""Runtimes behind one small interface; ``registry`` resolves a name to its class on use."""

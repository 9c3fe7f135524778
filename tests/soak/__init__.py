"""Trials for a long time: `make soak`."""

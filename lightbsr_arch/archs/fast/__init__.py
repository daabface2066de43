"""Implementations of layers that need less time or memory. Tests compare them with the plain layers."""

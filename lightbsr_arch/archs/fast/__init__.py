"""Implementations of the architectures' layers that need less time or memory. Tests compare both."""

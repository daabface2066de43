"""Faster and leaner ways to the numbers that the architectures define; the tests compare both."""

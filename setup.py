"""For tools that call this file. Metadata, requirements and settings are in pyproject.toml."""

from setuptools import setup

setup()

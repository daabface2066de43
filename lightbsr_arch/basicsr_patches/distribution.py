"""The installed package that holds BasicSR."""

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions


@cache
def basicsr_distribution() -> str:
    """Return the name under which pip knows the installed BasicSR: ``basicsr``, or that of a continuation."""
    try:
        return distribution("basicsr").name
    except PackageNotFoundError:
        return packages_distributions()["basicsr"][0]

"""The name of the installed distribution of BasicSR."""

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions


@cache
def basicsr_distribution() -> str:
    """Return pip's name of the installed BasicSR, ``basicsr`` or that of a successor."""
    try:
        return distribution("basicsr").name
    except PackageNotFoundError:
        return packages_distributions()["basicsr"][0]

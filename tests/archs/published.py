"""Published networks, built from recorded weights under the names of their authors."""

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import recognise
from tests.golden import golden


def published(name: str) -> BlindSR:
    """Return the network of a golden file, in eval mode."""
    return recognise(golden(f"family/{name}", "w"), name).build()

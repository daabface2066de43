"""The published networks of the family, out of the recorded weights under their authors' names."""

from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import recognise
from tests.golden import golden


def published(name: str) -> BlindSR:
    """A network out of a golden file, in eval mode."""
    return recognise(golden(f"family/{name}", "w"), name).build()

"""Whether a network is being exported."""

import torch

# PyTorch 2.6 cannot tell an export from a compilation.
is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)

"""Detection of an export, in which networks avoid operations that exporters do not support."""

import torch

# PyTorch 2.6 cannot distinguish export from compilation.
is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)

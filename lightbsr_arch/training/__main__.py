"""``python -m lightbsr_arch.training`` is the ``basicsr`` command, for programs such as torchrun that run modules."""

import sys

from lightbsr_arch.training.command import main

sys.exit(main())

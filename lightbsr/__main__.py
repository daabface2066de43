"""``python -m lightbsr`` is the command ``lightbsr``."""

import sys

from lightbsr.commands import main

sys.exit(main())

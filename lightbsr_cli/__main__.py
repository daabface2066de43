import sys

from lightbsr_cli import main

sys.exit(main())

"""``python -m lightbsr_arch.config FILE`` prints an options file merged with its base.

Without FILE, the command writes ``options/schema.json`` and ``docs/options.md`` under the current folder.
"""

import sys
from pathlib import Path

from lightbsr_arch.config.merge import self_contained_text
from lightbsr_arch.config.reference import json_schema, options_page
from lightbsr_arch.errors import UserError

if __name__ == "__main__":
    if len(sys.argv) > 1:
        try:
            print(self_contained_text(Path(sys.argv[1])), end="")
        except UserError as error:
            sys.exit(str(error))
    else:
        Path("options/schema.json").write_text(json_schema(), encoding="utf-8")
        Path("docs/options.md").write_text(options_page(), encoding="utf-8")

"""Writes ``options/schema.json`` and ``docs/options.md`` under the current folder."""

from pathlib import Path

from lightbsr_arch.config.reference import json_schema, options_page

if __name__ == "__main__":
    Path("options/schema.json").write_text(json_schema(), encoding="utf-8")
    Path("docs/options.md").write_text(options_page(), encoding="utf-8")

"""The report: one HTML file with its data, pictures and script inside, which needs no network."""

import json
from pathlib import Path
from typing import Any


def html_report(summary: dict[str, Any]) -> str:
    """Fill the template; per-image figures stay in results.json."""
    shown = {key: value for key, value in summary.items() if key != "images"}
    data = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")  # nothing in it can end the script element
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", data)

"""The report, one HTML file that contains its data, pictures and script and needs no network."""

import json
from pathlib import Path
from typing import Any


def html_report(summary: dict[str, Any]) -> str:
    """Return the filled template. It has no figures of single images; they are in results.json."""
    shown = {key: value for key, value in summary.items() if key != "images"}
    data = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")  # no text may end the script element
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", data)

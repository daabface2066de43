"""The rule for names that become files or folders, so that no path leads out of its folder.

It applies to runs, data sets, metrics, settings, LMDB keys, the lines of ``meta_info.txt`` and members of archives.
"""

LONGEST_NAME = 200
"""Longest name in bytes of UTF-8. File systems allow 255; the rest is for an extension, the time and the like."""
LONGEST_PART = 250
"""Longest part of a path, in bytes, to which only a file extension is added."""


def unsafe_name(name: str, longest: int = LONGEST_NAME) -> str | None:
    """Return the reason why a name cannot be one file or folder of at most ``longest`` bytes, as a clause, or None."""
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "stands for a folder, not for a name"
    for separator in "/\\":
        if separator in name:
            return f"holds {separator!r}, which separates folders"
    odd = next((letter for letter in name if not letter.isprintable()), None)
    if odd is not None:
        return f"holds the unprintable character U+{ord(odd):04X}"
    if name != name.strip():
        return "begins or ends with a space"
    size = len(name.encode())
    if size > longest:
        return f"has {size} bytes, more than {longest}"
    return None


def unsafe_path(path: str) -> str | None:
    """Return the reason why a path is not a file below the folder that it is put in, as a clause, or None."""
    if path.startswith("/"):
        return "begins with '/' and so may lead anywhere"
    if "//" in path or path.endswith("/"):
        return "has an empty part"
    faults = ((part, unsafe_name(part, LONGEST_PART)) for part in path.split("/"))
    return next((f"has the part {_short(part)}, which {fault}" for part, fault in faults if fault), None)


def _short(name: str) -> str:
    return ascii(name) if len(name) <= 60 else f"{name[:57]!a}..."

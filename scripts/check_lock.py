"""Hold requirements.lock to what makes it portable: exact versions, a hash for each, and no index named.

python scripts/check_lock.py requirements.lock
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TOGETHER = ("torch", "torchvision")  # built against each other: one without the other breaks at import
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==[^\s;]+(\s*;.*)?$")
_PLACE = re.compile(r"(?i)\b(?:https?|file|git\+\w+)://|^\s*(?:-i|-f|--(?:index-url|extra-index-url|find-links))\b")


def problems(text: str) -> list[str]:
    """What is wrong with a lock file, one line each."""
    found = [
        f"line {n}: names a place: {line.strip()}" for n, line in enumerate(text.splitlines(), 1) if _PLACE.search(line)
    ]
    names = set()
    logical = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    )
    for line in filter(None, map(str.strip, logical.splitlines())):
        if line.startswith("-"):
            found.append(f"an option instead of a requirement: {line:.80}")
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line)
        pin = _PIN.match(requirement.strip())
        if pin is None:
            found.append(f"not pinned with ==: {requirement:.80}")
        else:
            names.add(pin["name"].lower())
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes):
            found.append(f"no SHA-256: {requirement:.80}")
    return found + [f"{name} is missing" for name in TOGETHER if name not in names]


def main(arguments: list[str]) -> int:
    path = Path(arguments[0] if arguments else "requirements.lock")
    try:
        found = problems(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: cannot read {path} ({error}); give the path of a lock file", file=sys.stderr)
        return 1
    for problem in found:
        print(f"error: {path}: {problem}", file=sys.stderr)
    if not found:
        print(f"{path}: every version pinned and hashed, no index named")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Whether the site is already what Sphinx would make of the sources and of the executed pages.

``python -m companion.build.current`` ends with 1 where the site must be built, and with
``--note`` remembers that it now has been.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from posterior_collapse.errors import program
from posterior_collapse.places import STORE_VARIABLE, store_root

_SITE = Path("_build", "html")
_NOTE = Path("_build", "built.json")  # beside the site: nobody wants it on a server
_PRODUCTS = {"_build", "_batch", "__pycache__"}


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in _PRODUCTS and name[0] != ".")
        yield from (Path(folder, name) for name in sorted(files))


def state(root: Path) -> dict[str, str]:
    """Digests of what decides the site, and of the site's own files by name and size."""
    asked = {k: v for k, v in os.environ.items() if k.startswith("POSTERIOR_COLLAPSE_")}
    made_of = hashlib.sha256(json.dumps(asked | {STORE_VARIABLE: ""}, sort_keys=True).encode())
    for path in (*_files(root), *sorted((store_root() / "pages").glob("*.sha256"))):
        made_of.update(f"\n{path.name}\n".encode() + path.read_bytes())
    site = hashlib.sha256()
    for path in _files(root / _SITE):
        site.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
    return {"sources": made_of.hexdigest(), "site": site.hexdigest()}


@program
def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    root = Path.cwd()
    now = state(root)
    note = root / _NOTE
    if "--note" in (sys.argv[1:] if arguments is None else arguments):
        note.write_text(json.dumps(now), encoding="utf-8")
        return 0
    if note.is_file() and note.read_text(encoding="utf-8") == json.dumps(now):
        print("[book] the site is up to date")
        return 0
    note.unlink(missing_ok=True)  # a build that is broken off leaves none
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""How to cite the book, from the repository's CITATION.cff."""

from __future__ import annotations

import html

import yaml

from companion.build import sources


def citation() -> str:
    """A BibTeX entry as HTML; its address is the one setting of the book's repository."""
    root = sources.find_root()
    own = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    book = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    fields = {
        "title": own["title"],
        "author": " and ".join(f"{{{one['name']}}}" for one in own["authors"]),
        "year": book["copyright"],
        "note": f"Version {own['version']}",
        "url": book["repository"]["url"],
    }
    lines = "".join(f"  {name} = {{{text}}},\n" for name, text in fields.items() if text)
    return f"<pre>{html.escape(f'@misc{{posteriorcollapse,{chr(10)}{lines}}}')}</pre>"

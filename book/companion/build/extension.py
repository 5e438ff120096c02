"""Sphinx extension: hands executed pages to the book, and builds it without Node when it must.

Used by ``_config.yml``. It gives myst-nb papermill runs, tells Sphinx which pages are out of date,
moves answers, links terms to the glossary, and writes MathML where vendored scripts are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.math import get_node_equation_number

from companion.build import assets, reader, site, sources
from companion.build.parameters import ANSWER

_log = logging.getLogger(__name__)
# Script of the book -> what a page that uses it has in its body.
_SCRIPTS = {
    "tables.js": "pc-table",
    "survey.js": "pc-survey",
    "code.js": "hide above-input",
    "home.js": "pc-stage",
}
_current = {"name": ""}  # the source that Sphinx reads now, for messages
_KEYS = "posterior_collapse_keys"


def read(text: str) -> Any:
    """The papermill run of a source notebook; named in ``nb_custom_formats``.

    Raises:
        reader.PageFailed: if a cell of the page raises.
    """
    return reader.read(text, _current["name"])


def _note_source(app: Sphinx, docname: str, content: list[str]) -> None:
    """Remember which page is read, and under which key."""
    path = Path(app.env.doc2path(docname))
    _current["name"] = path.relative_to(app.srcdir).as_posix()
    if path.suffix == ".ipynb":
        _keys(app.env)[docname] = _key(path, Path(app.srcdir))


def _keys(env: BuildEnvironment) -> dict[str, str]:
    """Page -> key of the run that the environment holds of it."""
    if not hasattr(env, _KEYS):
        setattr(env, _KEYS, {})
    keys: dict[str, str] = getattr(env, _KEYS)
    return keys


def _key(path: Path, root: Path) -> str:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(root).as_posix()
    declared = sources.default_parameters(sources.parse(text, name), name)
    return reader.page_key(text, reader.injected_parameters(declared), root)


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages whose run is another one than the one that the environment holds."""
    root = Path(app.srcdir)
    outdated = []
    for docname, key in _keys(env).items():
        path = Path(env.doc2path(docname))
        if docname not in removed and path.exists() and _key(path, root) != key:
            outdated.append(docname)
    return outdated


def _without_scripts(app: Sphinx, config: Any) -> None:
    """Choose what the site does without the vendored scripts, if they are not there."""
    if assets.present(Path(app.srcdir)):
        return
    notice = assets.missing_notice()
    _log.info("[site] %s", notice)
    config.html_math_renderer = "mathml"
    config.html_theme_options = {**config.html_theme_options, "announcement": notice}


def _scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Load what a page uses, and nothing else."""
    body = str(context.get("body", ""))
    for script, mark in _SCRIPTS.items():
        if mark in body:
            app.add_js_file(script)


# What other extensions write -> names and roles that screen readers can make sense of.
_NAMES = {
    ' aria-label="Toggle hidden content"': "",
    '<div role="list" class="cit': '<div class="cit',
}


def _named(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Mend the names and roles that other extensions give."""
    for wrong, right in _NAMES.items():
        if "body" in context:
            context["body"] = context["body"].replace(wrong, right)


def _without_thebe(app: Sphinx, config: Any) -> None:
    """Take live code out: its scripts name a server, and the book needs no kernel.

    Jupyter Book loads sphinx-thebe always, so its listeners are removed again.
    """
    for name in ("env-before-read-docs", "doctree-resolved"):
        listeners = app.events.listeners[name]
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


class _Computed(SphinxDirective):
    """A part of a prose page that is computed when the site is built; see companion.front."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The part as raw HTML; the page is read again at every build."""
        from companion import front  # imports torch, which a book of notebooks alone can do without

        self.env.note_reread()
        return [nodes.raw("", front.part(self.arguments[0]), format="html")]


def _lift_answer(app: Sphinx, doctree: nodes.document) -> None:
    """Move the answer of a computed page from below its parameters to right under its question."""
    answers = [raw for raw in doctree.findall(nodes.raw) if f'class="{ANSWER}"' in raw.astext()]
    paragraphs = doctree.findall(nodes.paragraph)
    questions = [one for one in paragraphs if one.astext().startswith("Question. ")]
    if answers and questions:
        answers[0].parent.remove(answers[0])
        home = questions[0].parent
        home.insert(home.index(questions[0]) + 1, answers[0])


_NOT_PROSE = (nodes.reference, nodes.literal, nodes.math, nodes.raw, nodes.title, nodes.strong)


def _plain_texts(node: nodes.Element) -> Iterator[tuple[nodes.Element, int]]:
    """Text outside links, code, headings and bold: its parent, and its place there."""
    for place, child in enumerate(list(node.children)):
        if isinstance(child, nodes.Text):
            yield node, place
        elif isinstance(child, nodes.Element) and not isinstance(child, _NOT_PROSE):
            yield from _plain_texts(child)


def _link_term(parent: nodes.Element, place: int, match: re.Match[str], address: str) -> None:
    """Turn a part of a text into a link."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    link = nodes.reference("", match[0], internal=True, refuri=address, classes=["pc-term"])
    parent[place : place + 1] = [nodes.Text(before), link, nodes.Text(after)]


def _link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link each term of the glossary where a page uses it first."""
    terms = [
        (title, page, anchor)
        for _, title, kind, page, anchor, _ in app.env.domains["std"].get_objects()
        if kind == "term" and page != docname
    ]
    if docname == app.config.root_doc:
        return
    for title, page, anchor in terms:
        pattern = re.compile(rf"(?<![\w-]){re.escape(title)}s?(?![\w-])", re.IGNORECASE)
        address = f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
        prose = (one for one in doctree.findall(nodes.paragraph) if one.parent is not None)
        for parent, place in (spot for one in prose for spot in _plain_texts(one)):
            if match := pattern.search(parent[place].astext()):
                _link_term(parent, place, match, address)
                break


# What docutils knows under another name only.
_PLAINER = {"tfrac": "frac", "dots": "ldots", "big": "bigl"}


def _mathml(tex: str, block: bool) -> str:
    """MathML of a formula, or its TeX where docutils knows a command of it not."""
    for command, plain in _PLAINER.items():
        tex = re.sub(rf"\\{command}(?![a-zA-Z])", rf"\\{plain}", tex)
    tex = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", tex)
    try:
        return tex2mathml(tex, as_block=block)
    except (MathError, ValueError, IndexError):
        code = nodes.Text(tex).astext()
        for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            code = code.replace(plain, safe)
        return f"<code>{code}</code>"


def _visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{_mathml(node.astext(), False)}</span>')
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node.get("number"):
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_mathml(node.astext(), True) + "</div>\n")
    raise nodes.SkipNode


def _is_bare_field(
    app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields of named tuples, of which Python itself says no more than their number."""
    return True if (getattr(member, "__doc__", "") or "").startswith("Alias for field") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.add_directive("computed", _Computed)
    app.connect("doctree-read", _lift_answer)
    app.connect("doctree-resolved", _link_terms)
    app.connect("config-inited", _without_scripts)
    app.connect("config-inited", _without_thebe)
    app.connect("html-page-context", _scripts)
    app.connect("html-page-context", _named)
    app.connect("html-page-context", site.describe)
    app.connect("config-inited", site.repository)
    app.connect("build-finished", site.draw_card)
    app.connect("build-finished", site.lighten)
    app.connect("build-finished", site.write_prose)
    app.connect("build-finished", site.tell_weights, priority=900)  # after the theme's last touch
    app.connect("source-read", _note_source)
    app.connect("env-get-outdated", _outdated)
    app.setup_extension("sphinx.ext.autodoc")  # whose event the next line names
    app.connect("autodoc-skip-member", _is_bare_field)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}

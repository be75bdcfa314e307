"""Results in words: pages that consist of sections, as Markdown and as HTML."""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from vitcnn.page import page

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~#&]|^[-+=]", re.M)  # what Markdown would read as its own
_CODE = re.compile(r"`([^`\n]+)`")
_HTML = re.compile(r"<(?=[a-z/!?])|&(?=#?\w+;)", re.I)  # what it would read as HTML's


class Section(NamedTuple):
    """A part of a page under its title: notices nobody may miss, text, a list, a table of text, quotations.

    A quotation is who wrote it, and the words.
    """

    title: str
    notices: Sequence[str] = ()
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    table: pd.DataFrame | None = None
    quotes: Sequence[tuple[str, str]] = ()


def as_written(text: str) -> str:
    """Return the Markdown that shows `text` as it is."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def without_html(text: str) -> str:
    """Return Markdown in which what looks like HTML, as a title may, is text."""
    return _HTML.sub(r"\\\g<0>", text)


def to_markdown(sections: Sequence[Section], words: Callable[[str], str] = without_html) -> str:
    """Return a page as GitHub's Markdown; `words` is as_written where readers wrote some of the text."""
    blocks = []
    for number, section in enumerate(sections):
        blocks.append(f"{'##' if number else '#'} {words(section.title)}")
        blocks += [f"**{words(notice)}**" for notice in section.notices]
        blocks += [words(text) for text in section.paragraphs]
        if section.items:
            blocks.append("\n".join(f"- {words(item)}" for item in section.items))
        if section.table is not None:
            cells = section.table.map(lambda text: words(" ".join(text.split())))  # each on one line
            cells = cells.replace(r"(?<!\\)\|", r"\\|", regex=True)  # where `words` has not done it
            rows = [cells.columns, ["---"] * len(cells.columns), *cells.to_numpy()]
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        for who, text in section.quotes:
            lines = [words(line.strip()) for line in text.splitlines()]
            blocks += [f"{words(who)}:", "\n".join(f"> {line}  " for line in lines)]
    return "\n\n".join(blocks) + "\n"


def with_code(text: str) -> str:
    """Return the HTML of text in which `this` is code, as in Markdown."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def to_html(sections: Sequence[Section], words: Callable[[str], str] = with_code) -> str:
    """Return a page of its own; `words` is escape where readers wrote some of the text."""
    blocks = []
    for number, section in enumerate(sections):
        blocks += [f"<h2>{words(section.title)}</h2>"] if number else []
        blocks += [f"<p><strong>{words(notice)}</strong></p>" for notice in section.notices]
        blocks += [f"<p>{words(text)}</p>" for text in section.paragraphs]
        if section.items:
            blocks.append(f"<ul>{''.join(f'<li>{words(item)}</li>' for item in section.items)}</ul>")
        if section.table is not None:
            blocks.append(section.table.to_html(index=False, border=0))
        for who, text in section.quotes:
            lines = "<br>".join(words(line.strip()) for line in text.splitlines())
            blocks.append(f"<p>{words(who)}:</p>\n<blockquote>{lines}</blockquote>")
    return page(sections[0].title, "\n".join(blocks))

"""The few pieces that every part of the page is made of."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence


def escape(text: object) -> str:
    """Text that is safe between tags and inside quoted attributes."""
    return html.escape(str(text), quote=True)


def signs(text: str) -> str:
    """Text of a terminal with the minus signs and dashes of print."""
    return re.sub(r"(?<=\d)-(?=\d)", "–", re.sub(r"(?<!\w)-(?=\d)", "−", text))


def section(key: str, title: str, body: str) -> str:
    """A part of the page that the contents link to."""
    return f'<section id="{key}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str) -> str:
    """A table; the cells of `rows` are HTML, the first of each is the row's header."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def code_block(text: str, label: str) -> str:
    """Code with a button that copies it."""
    return (
        f'<div class="code"><pre tabindex="0" aria-label="{escape(label)}"><code>{escape(text)}'
        '</code></pre><button type="button" class="copy" hidden>Copy</button></div>'
    )

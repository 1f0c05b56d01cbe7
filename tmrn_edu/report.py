"""One self-contained HTML page: text, tables, and pictures, a video and a widget inside the file. Nothing is loaded. Ours."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.55 system-ui, sans-serif; color: #1c1e21; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.25 } h2 { font-size: 1.25rem; margin-top: 2.4rem }
figure { margin: 1rem 0 } figure img, figure video { max-width: 100%; height: auto; display: block } figcaption { color: #555; font-size: .9rem }
.wide table { border-collapse: collapse; margin: 1rem 0 }
.wide td, .wide th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
.wide td:first-child, .wide th:first-child { text-align: left; padding-left: 0 }
code { background: #f3f4f6; padding: .1em .3em; border-radius: .2em }
.wide { overflow-x: auto }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """The page as text; `parts` are HTML already (see the functions below). Source: ours."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"\n<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph; `backticks` become code, everything else is taken as it is."""
    pieces = html.escape(text).split("`")
    return "<p>" + "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces)) + "</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; first column to the left, numbers to the right."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return '<div class="wide"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def picture(content: bytes, alt: str, caption: str = "") -> str:
    """A PNG inside the page. `alt` says what it shows to those who do not see it."""
    return f'<figure><div class="wide"><img src="{_inline(content, "image/png")}" alt="{html.escape(alt)}"></div>{_caption(caption)}</figure>'


def video(path: Path, caption: str = "") -> str:
    """An mp4 inside the page, looping without sound."""
    source = _inline(path.read_bytes(), "video/mp4")
    return (
        f'<figure><video src="{source}" controls loop autoplay muted playsinline></video>{_caption(caption)}</figure>'
    )


def _inline(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _caption(text: str) -> str:
    return f"<figcaption>{html.escape(text)}</figcaption>" if text else ""

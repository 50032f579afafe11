"""Render a page as one self-contained HTML file: it loads no script, font or picture from outside."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.report.page_model import Page, RowView
from thunder.text.normalize import escape_hidden

TEMPLATES = Path(__file__).parent / "templates"
# in the order in which a browser tries them; the page names the first one if none is installed
FONTS = ("Noto Sans NKo", "Kigelia", "Ebrima", "Conakry", "DejaVu Sans")
# characters that could end a script element or start a comment in it, and JavaScript's line ends
_SCRIPT_ESCAPES = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}
# only the page's own scripts run, and nothing is fetched; Vega interprets its expressions without `eval`
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; script-src {hashes}"


def render_html(page: Page) -> str:
    """Render the page as HTML. All texts are escaped, and hidden characters in them are shown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: escape_hidden(value) if type(value) is str else value,
    )
    scripts = [_read_template("page.js").replace("FONT_NAMES", json.dumps(FONTS))]
    if any(section.chart for section in page.sections):
        scripts.insert(0, vega_script())
    return environment.get_template("page.html").render(
        page=page,
        style=_read_template("page.css").replace("FONT_NAMES", ", ".join(f'"{name}"' for name in FONTS)),
        policy=POLICY.format(hashes=" ".join(map(_script_hash, scripts))),
        scripts=scripts,
        specs={section.name: data_block(section.chart) for section in page.sections if section.chart},
        rows=data_block(compact_rows(page.rows)),
        font=FONTS[0],
    )


def write_page(page: Page, path: Path) -> None:
    """Write the page atomically."""
    digest.write_atomically(path, render_html(page))


def data_block(value: Any) -> str:
    """Return JSON that is safe inside a script element whatever its texts contain; surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_SCRIPT_ESCAPES)
    return text.encode("utf-8", "backslashreplace").decode()


def compact_rows(rows: Sequence[RowView]) -> list[list[Any]]:
    """Return rows as lists, in the order that page.js expects."""
    return [
        [
            escape_hidden(row.row_id), row.place, row.outcome, escape_hidden(row.partition), escape_hidden(row.script),
            row.before, row.after, row.units, escape_hidden(row.decision),
            [escape_hidden(reason) for reason in row.reasons],
            {True: "rtl", False: "ltr", None: "auto"}[row.rtl], [[line.of, line.segments] for line in row.lines],
            [escape_hidden(detail) for detail in row.details or row.reasons],
        ]
        for row in rows
    ]  # fmt: skip


@functools.cache
def vega_script() -> str:
    """Return Vega, Vega-Lite (the version of the specs) and Vega-Embed as one script; building it takes seconds."""
    import altair
    import vl_convert

    version = altair.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    return script.replace("</script", "<\\/script")


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script_hash(script: str) -> str:
    """Return the hash by which the page's policy permits exactly this script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

"""From what a page holds to one HTML file that needs nothing else: no script, font or picture comes from outside."""

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
# in the order in which a browser tries them; the first is what is asked for where there is none
FONTS = ("Noto Sans NKo", "Kigelia", "Ebrima", "Conakry", "DejaVu Sans")
# what could end a script element or start a comment in it, and what JavaScript takes for a line end
_SCRIPT_ESCAPES = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}
# only the page's own scripts run, and nothing is fetched; Vega walks its expressions, so that `eval` is not needed
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; script-src {hashes}"


def render_html(page: Page) -> str:
    """The page as HTML. All texts are escaped, and hidden characters in them are shown."""
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
    """Write the page, whole or not at all."""
    digest.write_atomically(path, render_html(page))


def data_block(value: Any) -> str:
    """JSON that can stand in a script element whatever its texts say; half characters are escaped as JSON has it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_SCRIPT_ESCAPES)
    return text.encode("utf-8", "backslashreplace").decode()


def compact_rows(rows: Sequence[RowView]) -> list[list[Any]]:
    """Rows as lists, in the order that page.js reads them in."""
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
    """Vega, Vega-Lite as the specs are written for, and Vega-Embed as one script; it takes seconds to put together."""
    import altair
    import vl_convert

    version = altair.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    return script.replace("</script", "<\\/script")


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script_hash(script: str) -> str:
    """What the page's policy lets run: exactly this script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

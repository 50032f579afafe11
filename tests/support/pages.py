"""Reads a page as a browser would take it apart: balanced tags, texts by tag, data blocks, what may run."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from unittest.mock import patch

from thunder.report import html_writer

VOID = {"meta", "input"}


class Read(HTMLParser):
    """A page: `texts` by the innermost tag, `attributes` as (tag, name, value), scripts and data blocks apart."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.attributes, self.scripts, self.blocks = [], {}, [], [], {}

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "script":
            self.scripts.append("")
            self.current = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "script" and self.current.get("type") == "application/json":
            self.blocks[self.current["id"]] = json.loads(self.scripts.pop())

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def of(self, tag):
        """The texts that stand directly in tags of a name, or in a <bdi> for the title."""
        return self.texts.get(tag) or self.texts.get("bdi", [])[:1]

    @property
    def text(self):
        return "\n".join(text for texts in self.texts.values() for text in texts)

    @property
    def rows(self):
        return self.blocks["data-rows"]

    @property
    def specs(self):
        return {name.removeprefix("spec-"): block for name, block in self.blocks.items() if name.startswith("spec-")}

    @property
    def policy(self):
        return next(value for _, name, value in self.attributes if name == "content" and "default-src" in value)


def read_page(html):
    """Take a page apart, and see that it is whole and needs nothing else."""
    page = Read()
    page.feed(html)
    page.close()
    assert not page.open
    assert not [each for each in page.attributes if each[1] == "src" or (each[1] == "href" and each[2][0] != "#")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    allowed = page.policy.partition("script-src ")[2].split()
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in page.scripts]
    assert [f"'sha256-{each}'" for each in hashes] == allowed
    assert "default-src 'none'" in page.policy and "unsafe-eval" not in page.policy
    return page


def rendered(page):
    """The page as HTML with a stand-in for the drawing library, which takes seconds to put together."""
    with patch.object(html_writer, "vega_script", lambda: "window.vegaEmbed = async () => {};"):
        return html_writer.render_html(page)

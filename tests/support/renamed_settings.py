"""Settings of an earlier version, and the same settings after a rename of each field."""

from __future__ import annotations

from thunder.config import Settings, option


class Before(Settings):
    """Settings as an earlier version had them."""

    window: int = option(0, "Words of a piece.")
    unsafe: bool = option(False, "Skip a check.")
    paths: list[str] = option([], "Files.")


class Now(Settings):
    """The same settings after a rename of each field."""

    chunk_words: int = option(0, "Words of a piece.", aliases=["words"], old_names=["window"])
    ignore_check: bool = option(False, "Skip a check.", old_names=["unsafe"])
    files: list[str] = option([], "Files.", old_names=["paths"])

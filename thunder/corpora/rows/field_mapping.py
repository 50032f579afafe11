"""Rename fields of rows by `--fields`, as in `hyp=asr.text,ref=gold,id=key`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thunder.corpora.rows.jsonl_lines import LineFault
from thunder.errors import UsageError

# names that a field can be given, besides those of pairs
EXAMPLE = "--fields hyp=recognized,ref=correct,id=key"


@dataclass(frozen=True)
class FieldMapping:
    """Name that is read here -> the field of the file, or the path to it with dots (`asr.text`)."""

    names: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names)

    def apply(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its fields renamed; a row that has none of them is returned as it is.

        Raises LineFault where a row has some of the fields, and not all.
        """
        if not self.names:
            return fields
        found = {name: _find(fields, source) for name, source in self.names.items()}
        missing = [name for name, value in found.items() if value is _MISSING]
        if len(missing) == len(found):
            return fields
        if missing:
            source = self.names[missing[0]]
            known = ", ".join(map(repr, fields))
            raise LineFault(f"has no field '{source}' (--fields {missing[0]}={source}); found {known}")
        sources = set(self.names.values())
        return {name: value for name, value in fields.items() if name not in sources} | found


NO_MAPPING = FieldMapping()
_MISSING = object()


def _find(fields: dict[str, Any], source: str) -> Any:
    if source in fields:
        return fields[source]
    value: Any = fields
    for part in source.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def parse_field_mapping(text: str | None) -> FieldMapping:
    """Return the mapping of `name=field,name=field`. Raises UsageError where it is written otherwise."""
    names: dict[str, str] = {}
    for part in (text or "").split(",") if text else []:
        name, equals, source = (piece.strip() for piece in part.partition("="))
        if not (name and equals and source):
            raise UsageError(f"--fields: '{part.strip()}' is not NAME=FIELD", fix=EXAMPLE)
        if name in names:
            raise UsageError(f"--fields: '{name}' is named twice", fix=EXAMPLE)
        names[name] = source
    return FieldMapping(names)

"""A cut in the last page of an OGG file is found."""

from __future__ import annotations

import pytest
from sound_cases import save, speech_like

from thunder.acoustic.sound_files import ogg_pages
from thunder.errors import CorpusError


@pytest.mark.parametrize("missing", [1, 10, 200])
def test_the_missing_bytes_are_counted(tmp_path, missing):
    path = save(tmp_path / "a.ogg", speech_like())
    size = path.stat().st_size
    ogg_pages.check_ogg(path, size)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(CorpusError, match=f"is truncated: its last page lacks {missing} bytes"):
        ogg_pages.check_ogg(path, size - missing)

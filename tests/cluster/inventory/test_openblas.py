from pathlib import Path

import pytest

from thunder.cluster.inventory import openblas
from thunder.errors import ConfigError


@pytest.mark.parametrize(
    "names, machine, found",
    [
        (["lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"], "x86_64", 0),
        (["lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0"], "aarch64", 0),
        (["lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0"], "x86_64", None),
        (["lib64/libopenblasp.so.0"], "x86_64", 0),
        (["lib64/libopenblas.so.0", "lib64/libopenblasp.so.0"], "x86_64", 1),
        (["lib/libopenblas.so.0"], "x86_64", 0),
        (["lib/x86_64-linux-gnu/libblas.so.3"], "x86_64", None),
        ([], "x86_64", None),
    ],
)
def test_where_distributions_put_it(tmp_path, names, machine, found):
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    roots = (tmp_path / "lib64", tmp_path / "lib")
    expected = None if found is None else paths[found]
    assert openblas.find_openblas("Linux", roots, {}, machine) == expected
    assert openblas.find_openblas("Darwin", roots, {}, machine) is None


def test_one_that_the_user_names(tmp_path):
    mine = tmp_path / "libopenblas.so"
    mine.touch()
    assert openblas.find_openblas("Linux", (), {"THUNDER_OPENBLAS": str(mine)}) == mine
    with pytest.raises(ConfigError, match="no such file"):
        openblas.find_openblas("Linux", (), {"THUNDER_OPENBLAS": str(Path("/nowhere/x.so"))})

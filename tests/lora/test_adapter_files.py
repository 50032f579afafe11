"""Adapter folders as files: found, read, copied, told apart by base and by digest."""

from __future__ import annotations

import pytest
from small_adapters import train_adapter

from thunder.errors import ModelError
from thunder.lora import adapter_files


@pytest.fixture
def trained(tiny_model, tmp_path):
    return train_adapter(tiny_model, tmp_path)


@pytest.mark.parametrize("missing", ["adapters.safetensors", "adapter_config.json"])
def test_a_folder_that_is_not_an_adapter(trained, missing, tiny_model):
    folder, *_ = trained
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"not an adapter folder: it has no {missing}"):
        adapter_files.find_adapter(str(folder))

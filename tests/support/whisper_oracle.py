"""A small Whisper encoder with seeded weights, and what transformers makes of it: run as a program, it stores that.

The stored outputs, whisper_outputs.npz, are made by: python tests/support/whisper_oracle.py (needs torch).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CONFIG = {
    "model_type": "whisper", "num_mel_bins": 80, "d_model": 24, "encoder_layers": 3, "encoder_attention_heads": 4,
    "encoder_ffn_dim": 40, "max_source_positions": 1500, "activation_function": "gelu", "scale_embedding": False,
}  # fmt: skip
STORED = Path(__file__).with_name("whisper_outputs.npz")
KEPT = slice(0, 1500, 31)  # frames whose outputs are stored


def sinusoids(length, width):
    angles = np.arange(length)[:, None] * np.exp(-np.log(10000) / (width // 2 - 1) * np.arange(width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)


def weights(seed=7):
    """Hugging Face's names below the encoder -> arrays; the legacy generator's stream never changes."""
    draw, width, inner = np.random.RandomState(seed), CONFIG["d_model"], CONFIG["encoder_ffn_dim"]
    shapes = {"conv1.weight": (width, CONFIG["num_mel_bins"], 3), "conv1.bias": (width,),
              "conv2.weight": (width, width, 3), "conv2.bias": (width,)}  # fmt: skip
    for layer in range(CONFIG["encoder_layers"]):
        at = f"layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{at}self_attn.{name}.weight"] = (width, width)
            if name != "k_proj":
                shapes[f"{at}self_attn.{name}.bias"] = (width,)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{at}{name}.weight": (width,), f"{at}{name}.bias": (width,)}
        shapes |= {f"{at}fc1.weight": (inner, width), f"{at}fc1.bias": (inner,)}
        shapes |= {f"{at}fc2.weight": (width, inner), f"{at}fc2.bias": (width,)}
    shapes |= {"layer_norm.weight": (width,), "layer_norm.bias": (width,)}
    made = {}
    for name, shape in shapes.items():
        array = draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)
        made[name] = (array + ("norm.weight" in name)).astype(np.float32)
    return made | {"embed_positions.weight": sinusoids(1500, width)}


def mel(seed=8):
    """[3000, 80]."""
    return np.random.RandomState(seed).standard_normal((3000, CONFIG["num_mel_bins"])).astype(np.float32)


def by_transformers(tensors, spectrogram, config=CONFIG):
    """[1500, D] by transformers, in float32."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    names = {key: value for key, value in config.items() if key != "model_type"}
    encoder = WhisperEncoder(WhisperConfig(**names)).eval()
    encoder.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    with torch.no_grad():
        return encoder(torch.from_numpy(spectrogram.T[None].copy())).last_hidden_state[0].numpy()


def save_model(folder, tensors, config=CONFIG, prefix="model.encoder."):
    """A folder as Hugging Face has it, with a decoder's tensor that does not matter."""
    import mlx.core as mx

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    named = {prefix + name: mx.array(array) for name, array in tensors.items()}
    named["model.decoder.layers.0.fc1.weight"] = mx.zeros((2, 2))
    mx.save_safetensors(str(folder / "model.safetensors"), named)
    return folder


if __name__ == "__main__":
    np.savez_compressed(STORED, outputs=by_transformers(weights(), mel())[KEPT])

"""The widths of a language model that decide the cost of a training step, read from its config.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ACTIVATION_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
SCALE_BYTES = 2  # of a quantized group's scale and of its bias, each


@dataclass(frozen=True)
class LayerSize:
    """One block. mlp: width of its MLP. kv_matrices: key and value matrices of its own.

    There are 2 of them, 1 where values are the keys, and 0 where it uses those of another layer. source: the layer
    whose keys and values it attends to, itself where it makes its own. idle: unused matrices for keys and values.
    """

    head_dim: int
    kv_heads: int
    kv_matrices: int
    source: int
    mlp: int
    idle: int = 0


@dataclass(frozen=True)
class ModelSize:
    """Widths of a Gemma-like decoder. own: width of per-layer inputs, 0 where it has none; bits: 0 for no quantization.

    activation: bytes of a number between layers, and of a weight that is not quantized. streams: of hidden states,
    mixed by AltUp where there are several. laurel: rank of the way around attention, 0 where there is none.
    """

    hidden: int
    vocabulary: int
    heads: int
    layers: tuple[LayerSize, ...]
    own: int = 0
    own_vocabulary: int = 0
    tied: bool = True
    activation: int = 2
    bits: int = 0
    group: int = 64
    streams: int = 1
    laurel: int = 0

    @property
    def weight(self) -> float:
        """Bytes of a weight of a large matrix, its share of scales and biases included."""
        return self.bits / 8 + 2 * SCALE_BYTES / self.group if self.bits else float(self.activation)

    @property
    def cut(self) -> int:
        """The last layer that makes keys; above it, positions that are not supervised cannot change the loss."""
        return max(number for number, layer in enumerate(self.layers) if layer.kv_matrices)

    def linears(self, number: int) -> Iterator[tuple[str, int, int]]:
        """(name, in, out) of a layer's matrices."""
        layer, wide = self.layers[number], self.heads * self.layers[number].head_dim
        yield "q", self.hidden, wide
        for name in ("k", "v")[: layer.kv_matrices]:
            yield name, self.hidden, layer.kv_heads * layer.head_dim
        yield "o", wide, self.hidden
        yield from (("gate", self.hidden, layer.mlp), ("up", self.hidden, layer.mlp), ("down", layer.mlp, self.hidden))
        if self.own:
            yield from (("own gate", self.hidden, self.own), ("own projection", self.own, self.hidden))
        yield from self.laurel_matrices
        if self.streams > 1:
            yield "router", self.hidden, self.streams

    @property
    def laurel_matrices(self) -> tuple[tuple[str, int, int], ...]:
        """(name, in, out) of each layer's two, or none."""
        ends = (("laurel left", self.hidden, self.laurel), ("laurel right", self.laurel, self.hidden))
        return ends if self.laurel else ()

    def adapted(self, number: int) -> Iterator[tuple[str, int, int]]:
        """(name, in, out) of the matrices of a layer that get LoRA: those it uses, and the idle ones."""
        yield from self.linears(number)
        layer = self.layers[number]
        for _ in range(layer.idle):
            yield "idle", self.hidden, layer.kv_heads * layer.head_dim

    @property
    def weights(self) -> int:
        """Numbers in the large matrices, embeddings included."""
        count = len(self.layers)
        blocks = sum(wide_in * wide_out for n in range(count) for _, wide_in, wide_out in self.adapted(n))
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        others, coefficients = self.streams - 1, self.streams**3 + self.streams**2
        streams = 2 * others * self.hidden**2 + count * coefficients if others else 0
        return blocks + embeddings + streams + self.own * count * (self.own_vocabulary + self.hidden)


def model_size_from_config(config: dict[str, Any]) -> ModelSize | None:
    """The size of a model by its config.json; None where that does not say enough, or where it is a mixture of experts.

    The names are those of gemma4, gemma3, gemma3n and most of mlx_lm's decoders.
    """
    text = config.get("text_config", config)
    if text.get("enable_moe_block") or text.get("num_experts") or text.get("num_local_experts"):
        return None
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        layers = tuple(_layers(text, hidden, heads))
        own = int(text.get("hidden_size_per_layer_input") or 0)
        kind = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
        quantization = config.get("quantization") or config.get("quantization_config") or {}
        return ModelSize(
            hidden=hidden,
            vocabulary=int(text["vocab_size"]),
            heads=heads,
            layers=layers,
            own=own,
            own_vocabulary=int(text.get("vocab_size_per_layer_input", text["vocab_size"])) if own else 0,
            tied=bool(text.get("tie_word_embeddings", True)),
            activation=ACTIVATION_BYTES.get(str(kind), 2),
            bits=int(quantization.get("bits", 0)),
            group=int(quantization.get("group_size", 64)),
            streams=int(text.get("altup_num_inputs") or 1),
            laurel=int(text.get("laurel_rank") or 0),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError, IndexError):
        return None


def model_size_from_dict(fields: dict[str, Any]) -> ModelSize:
    """The size from its `dataclasses.asdict`, also after a way through JSON."""
    values: dict[str, Any] = {**fields, "layers": tuple(LayerSize(**layer) for layer in fields["layers"])}
    return ModelSize(**values)


def _layers(text: dict[str, Any], hidden: int, heads: int) -> Iterator[LayerSize]:
    """The blocks, from the bottom."""
    count, shared = int(text["num_hidden_layers"]), int(text.get("num_kv_shared_layers") or 0)
    pattern = int(text.get("sliding_window_pattern") or 5)
    head = int(text.get("head_dim") or hidden // heads)
    kv_heads = int(text.get("num_key_value_heads") or heads)
    newest: dict[bool, int] = {}  # of each kind of attention, the last layer so far with keys of its own
    if count - shared < 1:
        raise ValueError("no layer makes keys and values")
    kinds = text.get("layer_types") or [
        "full_attention" if number % pattern == pattern - 1 else "sliding_attention" for number in range(count)
    ]
    widths = text["intermediate_size"]
    widths = widths if isinstance(widths, list) else [widths] * count
    for number in range(count):
        full, shares = kinds[number] == "full_attention", number >= count - shared
        same = full and bool(text.get("attention_k_eq_v"))
        source = newest[full] if shares else number
        newest[full] = source
        yield LayerSize(
            head_dim=int(text.get("global_head_dim") or head) if full else head,
            kv_heads=int(text.get("num_global_key_value_heads") or kv_heads) if same else kv_heads,
            kv_matrices=0 if shares else 1 if same else 2,
            source=source,
            mlp=int(widths[number]) * (2 if shares and text.get("use_double_wide_mlp") else 1),
            idle=2 if shares and "altup_num_inputs" in text else 0,  # only gemma3n holds them
        )


# Published dimensions of gemma-4-e2b's text model; bfloat16 is an assumption where a run did not say more.
E2B_CONFIG: dict[str, Any] = {
    "hidden_size": 1536,
    "num_hidden_layers": 35,
    "intermediate_size": 6144,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 256,
    "vocab_size": 262144,
    "vocab_size_per_layer_input": 262144,
    "dtype": "bfloat16",
}

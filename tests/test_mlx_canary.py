"""Names what the code uses of the internals of mlx and mlx_lm, so that a version that changed them says whom it breaks.

Each entry says which module of ours depends on it. When a test fails after an update: see what changed there, mend the
module, run its own tests (they compare with mlx_lm's results), then write the new state down here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import mlx_lm.utils
import pytest
from mlx.utils import tree_flatten
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import cache, gemma3_text, gemma3n, gemma4_text
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner import lora, trainer
from mlx_lm.tuner import utils as tuner_utils
from packaging.requirements import Requirement
from random_models import random_model

from thunder.config import REPOSITORY

GEMMA4, GEMMA3, GEMMA3N = "thunder.lora.engine.gemma4", "thunder.lora.engine.gemma3", "thunder.lora.engine.gemma3n"
FAST_MATH, LINEAR_LAYERS = "thunder.lora.engine.fast_math", "thunder.lora.engine.linear_layers"
HEAD = "thunder.lora.engine.lm_head_loss"
FROZEN, FULL = "thunder.lora.engine.frozen_weights", "thunder.lora.engine.full_model_engine"
ADAPTERS, BASE = "thunder.lora.adapters", "thunder.lora.base_model"
PRETRAINING, LORA_TASK = "thunder.lora.pretraining", "thunder.lora.lora_task"
KV_CACHE, GREEDY = "thunder.evaluation.decoding.kv_cache", "thunder.evaluation.decoding.greedy"
STEP, CHECKPOINT = "thunder.training.step", "thunder.training.checkpoints.checkpoint"
LAUNCH, DISPATCH = "thunder.kernels.gpu_launch", "thunder.kernels.dispatch"
WORLD, COLLECTIVES = "thunder.parallel.world", "thunder.parallel.collectives"
HEAD_FILE, CALIBRATION = "thunder.acoustic.head.head_file", "thunder.training.shapes.calibration"


def name_of(parameter: Any) -> str:
    """The id of a test: the function's name alone."""
    return getattr(parameter, "__qualname__", None) or getattr(parameter, "__name__", "")


def versions() -> str:
    """The installed versions, for messages."""
    return f"mlx {metadata.version('mlx')}, mlx-lm {metadata.version('mlx-lm')}"


@pytest.mark.parametrize("package", ["mlx", "mlx-lm"])
def test_the_installed_version_is_within_the_bounds(package):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    bounds = [one for one in map(Requirement, [*project["dependencies"], *extras]) if one.name == package]
    assert bounds
    for bound in bounds:
        assert any(each.operator == "<" for each in bound.specifier), f"{bound} has no upper bound"
        assert bound.specifier.contains(metadata.version(package)), f"{package} is outside of {bound}"


BATCH_CHECK = "thunder.evaluation.decoding.batch_check"
FUSED, MLX_LM_PROMPT = "thunder.lora.fused_model", "thunder.lora.prompts.mlx_lm_prompt"

# (who depends on it, the callable, its parameters)
SIGNATURES: list[tuple[str, Callable[..., Any], str]] = [
    (GEMMA4, gemma4_text.DecoderLayer.__call__, "self x mask cache per_layer_input shared_kv offset"),
    (GEMMA4, gemma4_text.Attention.__call__, "self x mask cache shared_kv offset"),
    (FAST_MATH, gemma4_text.MLP.__call__, "self x"),
    (GEMMA3, gemma3_text.TransformerBlock.__call__, "self x mask cache"),
    (GEMMA3, gemma3_text.Attention.__call__, "self x mask cache"),
    (FAST_MATH, gemma3_text.MLP.__call__, "self x"),
    (FULL, gemma3n.Model.__call__, "self inputs cache input_embeddings"),
    (FULL, gemma4_text.Model.__call__, "self inputs cache input_embeddings per_layer_inputs"),
    (FULL, gemma3_text.Model.__call__, "self inputs cache input_embeddings"),
    (ADAPTERS, tuner_utils.linear_to_lora_layers, "model num_layers config use_dora"),
    (ADAPTERS, lora.LoRALinear.__init__, "self input_dims output_dims r dropout scale bias"),
    (LORA_TASK, trainer.grad_checkpoint, "layer"),
    (BASE, mlx_lm.utils.load_model, "model_path lazy strict model_config get_model_classes trust_remote_code"),
    (BASE, mlx_lm.utils.maybe_set_recommended_wired_limit, ""),
    (KV_CACHE, cache.make_prompt_cache, "model max_kv_size"),
    (KV_CACHE, cache.BatchKVCache.__init__, "self left_padding"),
    (KV_CACHE, cache.BatchRotatingKVCache.__init__, "self max_size left_padding"),
    (KV_CACHE, cache.KVCache.merge, "caches"),
    (KV_CACHE, cache.RotatingKVCache.merge, "caches"),
    (GREEDY, cache.BatchKVCache.extract, "self idx"),
    (GREEDY, cache.BatchRotatingKVCache.extract, "self idx"),
    (GREEDY, BatchGenerator.insert,
     "self prompts max_tokens caches all_tokens samplers logits_processors stop_sequences"),
    (GREEDY, BatchGenerator.next_generated, "self"),
    (BATCH_CHECK, BatchGenerator.next_generated, "self"),
    (FUSED, mlx_lm.utils.save_model, "save_path model donate_model"),
    (FUSED, mlx_lm.utils.dequantize_model, "model"),
    (MLX_LM_PROMPT, mlx_lm.utils.load_tokenizer, "model_path tokenizer_config_extra eos_token_ids"),
    (MLX_LM_PROMPT, TokenizerWrapper.apply_chat_template, "self args tokenize kwargs"),
    (GREEDY, BatchGenerator.close, "self"),
    (GEMMA3N, nn.utils.checkpoint, "module fn"),
    (STEP, optim.AdamW.__init__, "self learning_rate betas eps weight_decay bias_correction"),
    (FULL, nn.losses.cross_entropy, "logits targets weights axis label_smoothing reduction"),
]  # fmt: skip


@pytest.mark.parametrize(("dependent", "function", "parameters"), SIGNATURES, ids=name_of)
def test_a_function_takes_what_we_give_it(dependent, function, parameters):
    now = " ".join(inspect.signature(function).parameters)
    assert now == parameters, f"{function.__module__}.{function.__qualname__} changed in {versions()}: see {dependent}"


# (who depends on it, the function of MLX's C++ part, names of arguments that we give it)
NATIVE: list[tuple[str, Callable[..., Any], str]] = [
    (GEMMA3N, mx.fast.scaled_dot_product_attention, "q k v scale mask"),
    (LAUNCH, mx.fast.metal_kernel, "name input_names output_names source"),
    (LAUNCH, mx.fast.cuda_kernel, "name input_names output_names source header"),
    (LINEAR_LAYERS, mx.quantized_matmul, "x w scales biases transpose group_size bits mode"),
    (HEAD, mx.dequantize, "w scales biases group_size bits mode"),
    (STEP, mx.compile, "fun inputs outputs"),
    (WORLD, mx.distributed.init, "strict backend"),
    (COLLECTIVES, mx.distributed.all_sum, "x group stream"),
    (COLLECTIVES, mx.distributed.all_gather, "x group stream"),
    (HEAD_FILE, mx.load, "file return_metadata"),
    (HEAD_FILE, mx.save_safetensors, "file arrays metadata"),
]


@pytest.mark.parametrize(("dependent", "function", "arguments"), NATIVE, ids=name_of)
def test_a_native_function_takes_what_we_give_it(dependent, function, arguments):
    signature = function.__doc__.strip().partition("\n")[0]
    lacking = [name for name in arguments.split() if not re.search(rf"\b{name}:", signature)]
    assert not lacking, f"mlx.{function.__name__} changed in {versions()}, {lacking}: see {dependent}"


# (who depends on it, what it is, how to reach it in a tiny model of that type, the attributes that we read)
GEMMA4_BODY = ("embed_tokens embed_scale embed_tokens_per_layer embed_tokens_per_layer_scale per_layer_input_scale "
               "per_layer_model_projection per_layer_projection_norm per_layer_projection_scale layers norm "
               "previous_kvs window_size")  # fmt: skip
GEMMA3N_BODY = ("altup_projections altup_unembed_projections config embed_tokens embed_tokens_per_layer "
                "final_logit_softcapping first_kv_shared_layer_idx hidden_size layer_idx_to_cache_idx layers norm "
                "per_layer_model_projection per_layer_projection_norm sliding_window "
                "vocab_size_per_layer_input")  # fmt: skip
GEMMA3N_LAYER = ("altup input_layernorm is_sliding laurel mlp per_layer_input_gate per_layer_projection "
                 "post_attention_layernorm post_feedforward_layernorm post_per_layer_input_norm "
                 "pre_feedforward_layernorm self_attn")  # fmt: skip
GEMMA3N_ATTENTION = "head_dim k_norm k_proj n_kv_heads o_proj q_norm q_proj rope scale v_norm v_proj"
ATTRIBUTES: list[tuple[str, str, Callable[[Any], Any], str]] = [
    (GEMMA4, "gemma4", lambda model: model,
     "args final_logit_softcapping layers model model_type tie_word_embeddings"),
    (GEMMA4, "gemma4", lambda model: model.args, "hidden_size hidden_size_per_layer_input num_kv_shared_layers"),
    (GEMMA4, "gemma4", lambda model: model.model, GEMMA4_BODY),
    (GEMMA4, "gemma4", lambda model: model.layers[0], "input_layernorm layer_type self_attn"),
    (GEMMA4, "gemma4", lambda model: model.layers[0].self_attn,
     "head_dim k_norm k_proj n_kv_heads rope use_k_eq_v v_norm v_proj"),
    (FAST_MATH, "gemma4", lambda model: model.layers[0].mlp, "down_proj gate_proj up_proj"),
    (GEMMA3, "gemma3", lambda model: model, "args layers lm_head model model_type tie_word_embeddings"),
    (GEMMA3, "gemma3", lambda model: model.args, "hidden_size"),
    (GEMMA3, "gemma3", lambda model: model.model, "embed_tokens layers norm window_size"),
    (GEMMA3, "gemma3", lambda model: model.layers[0], "input_layernorm self_attn"),
    (GEMMA3, "gemma3", lambda model: model.layers[0].self_attn, "is_sliding k_norm k_proj n_kv_heads rope v_proj"),
    (FAST_MATH, "gemma3", lambda model: model.layers[0].mlp, "down_proj gate_proj up_proj"),
    (GEMMA3N, "gemma3n", lambda model: model, "layers make_cache model model_type"),
    (GEMMA3N, "gemma3n", lambda model: model.model.language_model, GEMMA3N_BODY),
    (GEMMA3N, "gemma3n", lambda model: model.model.language_model.config,
     "altup_active_idx altup_coef_clip altup_correct_scale altup_num_inputs head_dim hidden_size "
     "hidden_size_per_layer_input num_key_value_heads"),
    (GEMMA3N, "gemma3n", lambda model: model.layers[0], GEMMA3N_LAYER),
    (GEMMA3N, "gemma3n", lambda model: model.layers[0].self_attn, GEMMA3N_ATTENTION),
    (GEMMA3N, "gemma3n", lambda model: model.layers[0].mlp,
     "_std_multiplier activation_sparsity down_proj gate_proj up_proj"),
    (GEMMA3N, "gemma3n", lambda model: model.layers[0].altup,
     "correct_output_scale correction_coefs modality_router prediction_coefs router_norm"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """A tiny model of each type whose layers an engine runs itself."""
    kinds = {"gemma4": "gemma4, window 8", "gemma3": "gemma3, window 8", "gemma3n": "gemma3n"}
    return {kind: random_model(name) for kind, name in kinds.items()}


@pytest.mark.parametrize(("dependent", "kind", "reach", "names"), ATTRIBUTES)
def test_a_model_has_the_attributes_that_engines_read(dependent, kind, reach, names, models):
    part = reach(models[kind])
    lacking = [name for name in names.split() if not hasattr(part, name)]
    assert not lacking, f"{type(part).__name__} of {kind} changed in {versions()}, no {lacking}: see {dependent}"


# Functions whose arithmetic our modules write out themselves or steer from outside, by the digest of their code
# without comments and docstrings: (who depends on it, the function, the digest's beginning).
WRITTEN_OUT: list[tuple[str, Callable[..., Any], str]] = [
    (GEMMA4, gemma4_text.Attention.__call__, "0c9f5be0ec33"),
    (GEMMA4, gemma4_text.DecoderLayer.__call__, "7388b92af797"),
    (GEMMA4, gemma4_text.Gemma4TextModel.__call__, "eff7329bb440"),
    (GEMMA4, gemma4_text.Gemma4TextModel._get_per_layer_inputs, "4bce8c0e87fa"),
    (GEMMA4, gemma4_text.Gemma4TextModel._project_per_layer_inputs, "1adc76189d40"),
    (FAST_MATH, gemma4_text.MLP.__call__, "e6ce69a236d8"),
    (GEMMA3, gemma3_text.Attention.__call__, "e227a1c85396"),
    (GEMMA3, gemma3_text.TransformerBlock.__call__, "34dd0a98271e"),
    (GEMMA3, gemma3_text.Gemma3Model.__call__, "a23c569f3f42"),
    (FAST_MATH, gemma3_text.MLP.__call__, "ec57de011d1c"),
    (GEMMA3N, gemma3n.Gemma3nAttention.__call__, "f283007a0343"),
    (GEMMA3N, gemma3n.MLP.__call__, "654406a76301"),
    (GEMMA3N, gemma3n.Gemma3nAltUp.compute_router_modalities, "41f19b60aefc"),
    (GEMMA3N, gemma3n.Gemma3nAltUp.predict, "bea3453e2ccc"),
    (GEMMA3N, gemma3n.Gemma3nAltUp.correct, "822fcf262b82"),
    (GEMMA3N, gemma3n.Gemma3nDecoderLayer.__call__, "94fc0d9cffc2"),
    (GEMMA3N, gemma3n.LanguageModel.__call__, "91dbf6f4e2c2"),
    (GEMMA3N, gemma3n.LanguageModel.get_per_layer_inputs, "2aac7aea0ec9"),
    (GEMMA3N, gemma3n.LanguageModel.project_per_layer_inputs, "bd680fadbc08"),
    (KV_CACHE, cache.BatchKVCache.update_and_fetch, "313ce9304a47"),
    (KV_CACHE, cache.BatchKVCache.extract, "4bedb0295493"),
    (KV_CACHE, cache.BatchRotatingKVCache.update_and_fetch, "9bce6b3802d9"),
    (KV_CACHE, cache.BatchRotatingKVCache.extract, "87bb675b8f0c"),
    (ADAPTERS, tuner_utils.linear_to_lora_layers, "0f97f6eed6ff"),
    (ADAPTERS, lora.LoRALinear.__call__, "a230aa8ec8df"),
    (LORA_TASK, trainer.grad_checkpoint, "76c2c3ffbe1a"),
]


def code_digest(function: Callable[..., Any]) -> str:
    """The beginning of the SHA-256 of a function's code, without comments, docstrings and layout."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(repr(plain_tree(tree)).encode()).hexdigest()[:12]


def plain_tree(node: Any) -> Any:
    """A syntax tree as tuples, the same in every version of Python: fields that hold nothing are left out."""
    if isinstance(node, list):
        return [plain_tree(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return type(node).__name__, [(name, plain_tree(value)) for name, value in fields]


@pytest.mark.parametrize(("dependent", "function", "before"), WRITTEN_OUT, ids=name_of)
def test_code_that_we_write_out_is_what_it_was(dependent, function, before):
    now = code_digest(function)
    where = f"{function.__module__}.{function.__qualname__}"
    assert now == before, f"{where} changed in {versions()}: compare {dependent} with it, then note {now} here"


def test_caches_hold_what_we_set_ourselves():
    """Rows go on from any place in others by keys, values and offsets that are put into a new cache."""
    batch, rotating = cache.BatchKVCache([0, 1]), cache.BatchRotatingKVCache(4, [0, 1])
    assert {"keys", "values", "left_padding", "offset", "_idx"} <= vars(batch).keys(), KV_CACHE
    assert {"keys", "values", "left_padding", "offset", "_idx", "_offset", "max_size"} <= vars(rotating).keys(), (
        KV_CACHE
    )
    assert cache.RotatingKVCache(4).keep == 0 and rotating.max_size == 4, KV_CACHE
    assert batch.offset.tolist() == [0, -1], f"what an offset counts from changed: see {KV_CACHE}"
    merged = cache.KVCache.merge([cache.KVCache()] * 2)
    assert type(merged) is cache.BatchKVCache, KV_CACHE
    assert type(cache.RotatingKVCache.merge([cache.RotatingKVCache(4)] * 2)) is cache.BatchRotatingKVCache, KV_CACHE


def test_answers_of_the_batch_generator_have_the_fields_that_we_read(models):
    generator = BatchGenerator(models["gemma4"], stop_tokens=[[1]], completion_batch_size=2, prefill_batch_size=2)
    numbers = generator.insert([[5, 6, 7], [8, 9]], [1, 1], caches=None)
    heard = []
    while len(heard) < 2:
        heard += generator.next_generated()
    generator.close()
    assert sorted(each.uid for each in heard) == sorted(numbers), GREEDY
    for each in heard:
        assert each.logprobs.shape == (320,) and each.finish_reason in ("length", "stop") and each.token < 320, GREEDY


def test_layers_are_dictionaries_whose_class_can_be_exchanged():
    layer = nn.Linear(4, 2, bias=False)
    assert isinstance(layer, dict) and "bias" not in layer and layer.get("biases") is None, LINEAR_LAYERS
    layer.__class__ = type("Other", (nn.Linear,), {})
    assert layer(mx.ones((1, 4))).shape == (1, 2), f"{LINEAR_LAYERS} and {FAST_MATH} exchange classes"
    quantized = nn.QuantizedLinear(64, 64, bias=False)
    assert {"weight", "scales", "biases"} <= quantized.keys(), LINEAR_LAYERS
    assert all(hasattr(quantized, name) for name in ("group_size", "bits", "mode")), f"{LINEAR_LAYERS} and {HEAD}"
    assert callable(nn.Embedding(4, 2).as_linear) and callable(nn.QuantizedEmbedding(64, 64).as_linear), HEAD
    named = dict(nn.Sequential(layer).named_modules())
    assert layer in named.values() and callable(layer.update), FROZEN


def test_lora_layers_have_the_tensors_that_adapters_hold():
    layer = lora.LoRALinear.from_base(nn.Linear(8, 4, bias=False), r=2, dropout=0.0, scale=3.0)
    names = [name for name, _ in tree_flatten(layer.parameters())]
    assert sorted(names) == ["linear.weight", "lora_a", "lora_b"] and layer.scale == 3.0, ADAPTERS
    assert layer.lora_a.shape == (8, 2) and layer.lora_b.shape == (2, 4), ADAPTERS
    assert not mx.any(layer.lora_b).item(), f"B starts at zero: {ADAPTERS} tells by it whether an adapter does anything"


def test_the_optimizer_state_is_what_checkpoints_hold():
    optimizer, model = optim.AdamW(1e-3, bias_correction=False), nn.Linear(2, 2, bias=False)
    assert set(optimizer.state) == {"step", "learning_rate"}, STEP
    optimizer.init(model.trainable_parameters())
    names = {name for name, _ in tree_flatten(optimizer.state)}
    assert names == {"step", "learning_rate", "weight.m", "weight.v"}, CHECKPOINT


def test_values_cannot_be_read_while_a_function_is_traced():
    """By the words of that error the kernels' dispatch knows that only operations of MLX can run."""

    def traced(x: mx.array) -> mx.array:
        with pytest.raises(ValueError, match="function transformations"):
            mx.eval(x)
        return x + 1

    mx.eval(mx.compile(traced)(mx.ones(2)))
    assert DISPATCH


def test_devices_are_described_and_named_as_we_read_them():
    assert {"metal", "cuda", "fast", "distributed"} <= vars(mx).keys(), DISPATCH
    assert mx.default_device().type in (mx.DeviceType.cpu, mx.DeviceType.gpu), DISPATCH
    assert isinstance(mx.device_info(), dict), CALIBRATION
    assert isinstance(mx.metal.is_available(), bool) and isinstance(mx.cuda.is_available(), bool), DISPATCH


def dependents() -> set[str]:
    """Every module of ours that an entry of this file names."""
    tables = (SIGNATURES, NATIVE, ATTRIBUTES, WRITTEN_OUT)
    return {entry[0] for table in tables for entry in table} | {
        LINEAR_LAYERS, FROZEN, CHECKPOINT, DISPATCH, CALIBRATION, PRETRAINING,
    }  # fmt: skip


def test_entries_name_modules_that_there_are():
    for name in dependents():
        assert importlib.util.find_spec(name), f"{name} has another name now: change it here too"


@pytest.mark.expensive
def test_every_module_that_imports_mlx_lm_is_named_here():
    found = set()
    for path in (REPOSITORY / "thunder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.partition(".")[0] == "mlx_lm" for name in names):
                found.add(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    assert found - dependents() == set(), "say above what these use of mlx_lm"

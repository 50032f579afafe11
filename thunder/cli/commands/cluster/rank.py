"""One rank of a run: what the launcher starts on every host, with the run's folder as its only argument."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thunder.cli.parsing import paths
from thunder.cluster.ranks import orphan_guard
from thunder.config import SettingsLayer, build_settings, load_yaml
from thunder.errors import Interrupted, ThunderError
from thunder.runs.records import environment
from thunder.runs.records.run_record import CONFIG, RunRecord

if TYPE_CHECKING:
    from thunder.parallel.world import World
    from thunder.training.loop_settings import Circumstances

app = typer.Typer(add_completion=False)
JOIN_DEADLINE = 60  # seconds; MLX's own connect retries end after 31


class StopFlag:
    """Set by SIGTERM or SIGINT; the loop looks at it between steps and all ranks stop after the same one."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._event.set())

    def __call__(self) -> bool:
        return self._event.is_set()


@app.command()
def rank(
    folder: Annotated[Path, typer.Argument(help="The run's folder.")],
    job: str = "train",
    micro_batch_size: Annotated[int, typer.Option(min=0, help="Rows at once; 0 = the batch size.")] = 0,
    grad_checkpoint: Annotated[bool, typer.Option("--grad-checkpoint", help="Recompute activations.")] = False,
    planned_ranks: Annotated[int, typer.Option(min=0, help="Ranks that the global batch is made for.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Take a checkpoint with another fingerprint.")] = False,
) -> None:
    """Join the ring, train, test; used by the launcher, not by people."""
    faulthandler.enable()
    # whoever watches the ranks asks for their stacks so; it works while MLX blocks
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    orphan_guard.watch_launcher()
    number = int(os.environ.get("THUNDER_RANK", "0"))
    record = RunRecord.of_rank(folder, main=number == 0)
    record.start_heartbeat()
    code = 0
    try:
        from thunder.parallel import world
        from thunder.training import faults
        from thunder.training.loop_settings import Circumstances

        circumstances = Circumstances(planned_ranks, micro_batch_size, grad_checkpoint, force)
        faults.arm(os.environ.get(faults.VARIABLE, ""), record, number)
        record.phase("joining")
        faults.at("joining")
        # `init` keeps the interpreter's lock, and rank 0 waits in it without limit: only this thread in C can end it
        faulthandler.dump_traceback_later(JOIN_DEADLINE, exit=True)
        ring = world.join()
        faulthandler.cancel_dump_traceback_later()
        # from here on a signal means: finish the step, save, stop; before, there is nothing to save
        JOBS[job](folder, record, ring, StopFlag(), circumstances)
    except ThunderError as error:
        code = _tell(record, error.message, error.fix, error.exit_code, f"error: {error}")
    except BaseException as error:
        code = _tell(record, f"{type(error).__name__}: {error}", "", 1, traceback.format_exc())
    # A ring whose peer is gone can block the interpreter's way out for ever; what had to be written is written.
    os._exit(code)


def _tell(record: RunRecord, message: str, fix: str, code: int, text: str) -> int:
    """Tell the launcher first: where the disk is full, the log cannot be written."""
    record.event("error", message=message, fix=fix, exit_code=code)
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return code


def train(folder: Path, record: RunRecord, ring: World, stop: Callable[[], bool], circumstances: Circumstances) -> None:
    """LoRA training, then the test of base against adapter."""
    from thunder.evaluation import adapter_comparison
    from thunder.lora import adapter_files, base_model, cache_warmup, datasets, prefix_cache, tokenized_rows
    from thunder.lora.lora_settings import LoraSettings
    from thunder.lora.lora_task import LoraTask
    from thunder.parallel import collectives, consistency
    from thunder.training import faults, loop
    from thunder.training.checkpoints import checkpoint

    record.phase("loading")
    faults.at("loading")
    settings, _ = build_settings(LoraSettings, [SettingsLayer(str(folder / CONFIG), load_yaml(folder / CONFIG))])
    configuration, settings = settings.digest(), paths.placed(settings)
    base = base_model.find(settings.model)
    tokenizer = tokenized_rows.load_tokenizer(base)
    prepared = datasets.prepare(settings, tokenizer, circumstances.ranks(ring.size))
    base_digest = base_model.base_digest(base, base_model.digest_cache())
    fingerprint = {"configuration": configuration, "data": prepared.rows.digest(), "base weights": base_digest}
    consistency.check_consistency(ring, fingerprint | environment.package_versions())
    loaded = base_model.load(base)
    ours = {
        "model": settings.model or base.name,
        "base_sha256": base_digest,
        "data_sha256": prepared.rows.files,
        "run": folder.name,
    }
    for_task = circumstances.for_task(settings)
    # the weights come from a checkpoint, be it another host's, and the file may be gone
    if any(collectives.gather_json(ring, bool(checkpoint.steps(record.checkpoints)))):
        for_task = for_task.model_copy(update={"resume_adapter_file": None})
    task = LoraTask(loaded, for_task, prepared.train.examples, prepared.valid.examples, ours)
    record.phase("filling the prefix cache")
    cache_warmup.warm_up_cache(
        task, settings, ring,
        base_digest=base_digest, ranks=circumstances.ranks(ring.size), root=prefix_cache.prefix_cache_folder(),
        base=base, log=record.log, progress=record.progress,
    )  # fmt: skip
    state = loop.train(task, settings, ring, record, stop, fingerprint=fingerprint, circumstances=circumstances)
    results = _trained(state, settings, ring.size, circumstances)
    interrupted = stop() or state.asked_to_stop
    if prepared.rows.test and not interrupted:
        record.phase("testing", rows=len(prepared.rows.test))
        task.engine.restore_frozen(base)
        faults.at("testing")
        stops, on_row = (
            adapter_comparison.stop_tokens(tokenizer, base_model.read_config(base)),
            _row_counter(record, stop),
        )
        results["test"] = adapter_comparison.compare_adapter_with_base(
            loaded, tokenizer, prepared.rows.test, stops, ring, folder, on_row, chunk_words=settings.window
        )
    if record.main and settings.adapter_path and not interrupted:
        adapter_files.copy(folder / task.output, Path(settings.adapter_path))
    _end(record, results, interrupted, state.step)


def _row_counter(record: RunRecord, stop: Callable[[], bool]) -> Callable[[int, int], None]:
    """Tells of each row of a test, and ends it where the user asks to stop."""

    def on_row(done: int, total: int) -> None:
        record.event("test", done=done, total=total)
        if stop():
            raise Interrupted("in the test, after training", fix=f"./launch.sh resume {record.folder.name}")

    return on_row


def pretrain(
    folder: Path, record: RunRecord, ring: World, stop: Callable[[], bool], circumstances: Circumstances
) -> None:
    """Pretraining of the tiny base."""
    from thunder import digest
    from thunder.lora import open_text
    from thunder.lora import pretraining as base
    from thunder.lora.lora_settings import PretrainSettings
    from thunder.parallel import consistency
    from thunder.training import faults, loop

    record.phase("loading")
    faults.at("loading")
    settings, _ = build_settings(PretrainSettings, [SettingsLayer(str(folder / CONFIG), load_yaml(folder / CONFIG))])
    configuration, settings = settings.digest(), paths.placed(settings)
    task = base.PretrainTask(circumstances.for_task(settings), open_text.read_text(settings))
    wraps = task.wraps(settings.batch_size * circumstances.ranks(ring.size) * settings.grad_accumulation_steps)
    fingerprint = {"configuration": configuration, "data": digest.sha256_json([*task.text.train, *task.text.heldout])}
    consistency.check_consistency(ring, fingerprint | environment.package_versions())
    record.log(
        f"{len(task.text.train)} lines in {task.rows} sequences, {len(task.text.heldout)} lines held out, "
        f"{task.text.excluded} left out as near correction rows; the run goes over the text {wraps:.2f} times"
    )
    state = loop.train(task, settings, ring, record, stop, fingerprint=fingerprint, circumstances=circumstances)
    results = _trained(state, settings, ring.size, circumstances) | {
        "wraps": wraps * state.step / settings.total_updates
    }
    interrupted = stop() or state.asked_to_stop
    if record.main and settings.out and not interrupted:
        task.save(Path(settings.out))
    _end(record, results, interrupted, state.step)


def asr(folder: Path, record: RunRecord, ring: World, stop: Callable[[], bool], circumstances: Circumstances) -> None:
    """Training of an acoustic head, then the test of its best checkpoint."""
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.training import ctc_run
    from thunder.acoustic.training.ctc_task import AcousticTask
    from thunder.parallel import consistency
    from thunder.training import faults, loop

    record.phase("loading")
    faults.at("loading")
    settings, _ = build_settings(AcousticSettings, [SettingsLayer(str(folder / CONFIG), load_yaml(folder / CONFIG))])
    configuration, settings = settings.digest(), paths.placed(settings)
    prepared = utterances.prepare(settings, utterances.open_features(settings.features))
    fingerprint = {"configuration": configuration, "data": prepared.digest()}
    consistency.check_consistency(ring, fingerprint | environment.package_versions())
    task = AcousticTask(circumstances.for_task(settings), prepared, ctc_run.tables(settings, prepared, ring))
    ctc_run.begin(task, record)
    state = loop.train(task, settings, ring, record, stop, fingerprint=fingerprint, circumstances=circumstances)
    results = _trained(state, settings, ring.size, circumstances)
    interrupted = stop() or state.asked_to_stop
    if not interrupted:
        record.phase("testing", rows=min(len(prepared.test), settings.test_rows))
        faults.at("testing")
        results |= ctc_run.test(task, record, ring, _row_counter(record, stop))
    _end(record, results, interrupted, state.step)


def _trained(state: Any, settings: Any, ranks: int, circumstances: Circumstances) -> dict[str, Any]:
    return {
        "steps": state.step,
        "iterations": state.step * settings.grad_accumulation_steps,
        "epochs_begun": state.epoch + 1 if state.step else 0,
        "tokens": state.tokens,
        "ranks": ranks,
        "planned_ranks": circumstances.ranks(ranks),
        "blas": environment.blas_name(),
        "batch_size_per_rank": settings.batch_size,
        "micro_batch_size": circumstances.rows_at_once(settings),
        "grad_checkpoint": settings.grad_checkpoint or circumstances.grad_checkpoint,
        "global_batch_size": settings.batch_size * circumstances.ranks(ranks),
        "best_valid_loss": state.best_loss,
        "best_step": state.best_step,
        "balance": settings.balance,
        "speeds": state.speeds,
        "validation": state.validation,
        "stopped_early": state.stopped_early or None,
    }


def _end(record: RunRecord, results: dict[str, Any], interrupted: bool, step: int) -> None:
    if interrupted:
        where = f"at step {step}, with a checkpoint" if step else "before the first step: there is nothing to save"
        raise Interrupted(where, fix=f"./launch.sh resume {record.folder.name}")
    record.finish(results)


def smoke(folder: Path, record: RunRecord, ring: World, stop: Callable[[], bool], circumstances: Circumstances) -> None:
    """Sum one number a rank, again and again: whether the ring computes, and how long one sum takes."""
    import statistics
    import time

    from thunder.parallel import collectives

    record.phase("summing")
    numbers, seconds = [], []
    for turn in range(SMOKE_SUMS):
        begun = time.perf_counter()
        numbers.append(collectives.sum_numbers(ring, [float(ring.rank + 1 + turn)])[0])
        seconds.append(time.perf_counter() - begun)
    size = ring.size
    wanted = [size * (size + 1) / 2 + size * turn for turn in range(SMOKE_SUMS)]
    told = {"right": numbers == wanted, "ranks": size, "seconds": statistics.median(seconds)}
    record.event("smoke", **told)


SMOKE_SUMS = 20
JOBS = {"train": train, "pretrain": pretrain, "asr": asr, "smoke": smoke}

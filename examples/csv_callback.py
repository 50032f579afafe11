"""Write the losses of a run to a CSV file while it trains, and to trackio too where that is installed.

python examples/csv_callback.py losses.csv [--iters 200]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from pathlib import Path

from thunder import Callback, EndEvent, StartEvent, StepEvent, ValidationEvent, train


class CsvLog(Callback):
    """One line for each step and each validation. Only the methods that are needed are overridden."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, event: StartEvent) -> None:
        """Open the file; a resumed run (event.step > 0) appends."""
        self.stream = self.path.open("a" if event.step else "w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.stream)
        if not event.step:
            self.writer.writerow(["step", "loss", "valid_loss", "learning_rate"])

    def on_step(self, event: StepEvent) -> None:
        self.writer.writerow([event.step, event.loss, "", event.learning_rate])

    def on_validation(self, event: ValidationEvent) -> None:
        self.writer.writerow([event.step, "", event.metrics["valid_loss"], ""])

    def on_end(self, event: EndEvent) -> None:
        self.stream.close()


class TrackioLog(Callback):
    """The same numbers for trackio's dashboard (`pip install trackio`, then `trackio show`)."""

    def on_start(self, event: StartEvent) -> None:
        import trackio

        self.run = trackio.init(project="thunder", name=event.run_folder.name)

    def on_step(self, event: StepEvent) -> None:
        self.run.log({"loss": event.loss, "grad_norm": event.grad_norm}, step=event.step)

    def on_end(self, event: EndEvent) -> None:
        self.run.finish()


def main(path: Path, iters: int, ranks: int) -> None:
    """Train with the callbacks; they change nothing of what is computed."""
    callbacks: list[Callback] = [CsvLog(path)]
    if importlib.util.find_spec("trackio"):
        callbacks.append(TrackioLog())
    run = train(ranks=ranks, iters=iters, test_rows=0, steps_per_eval=10, callbacks=callbacks)
    print(f"{run.steps} steps; losses in {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--iters", type=int, default=200)
    # with 2 the ranks are processes of their own, and the callbacks get the events that rank 0 reports
    parser.add_argument("--ranks", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.path, arguments.iters, arguments.ranks)

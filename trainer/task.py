"""The command line of a training job, as Vertex AI starts it; flags only.

Example:
    AIP_MODEL_DIR=model python -m trainer.task --dataset data --num-train-examples 500000

Vertex AI sets AIP_MODEL_DIR, AIP_CHECKPOINT_DIR and AIP_TENSORBOARD_LOG_DIR from the job's baseOutputDirectory; the flags
of the same meaning win over them. Logs are JSON lines on stderr; of a job that fails, the last one tells why.
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import FrameType
from typing import NoReturn

from trainer import job, logs
from trainer.errors import Interrupted, SettingsError, TrainerError
from trainer.options import Options, refuse_foreign_replicas

EXIT_DONE = 0
EXIT_UNEXPECTED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 143  # 128 + SIGTERM, what a shell reports

_EPILOG = """\
example:
  AIP_MODEL_DIR=model python -m trainer.task --dataset data --num-train-examples 500000 --seed 1

exit codes: 0 done; 1 unexpected error; 2 refused, the last log line says why; 143 interrupted, checkpoint written
"""
_DEFAULTS = {item.name: item.default for item in fields(Options)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError("the command line is wrong", value=message, place="flags", mend="see --help")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Read flags and Vertex AI's variables.

    Raises:
        SettingsError: one of them cannot be used.
    """
    parser = _Parser(
        prog="python -m trainer.task",
        description="Train one model from a prepared dataset.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, help="directory with manifest.json (local or gs://)")
    for name, variable, what in (
        ("model_dir", "AIP_MODEL_DIR", "directory for the artifacts"),
        ("checkpoint_dir", "AIP_CHECKPOINT_DIR", "directory for checkpoints; none are written without it"),
        ("log_dir", "AIP_TENSORBOARD_LOG_DIR", "directory for TensorBoard events and progress.json"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, default=environment.get(variable, ""), help=f"{what} (default: ${variable})")
    for name, kind, what in (
        ("model", str, "which model to train"),
        ("num_train_examples", int, "examples to draw in total"),
        ("num_eval_examples", int, "at most this many held-out rows are measured; 0 measures all"),
        ("num_evals", int, "evaluations along the way"),
        ("learning_rate", float, "highest learning rate"),
        ("batch_size", int, "examples per step"),
        ("seed", int, "of the initial weights and the order of the examples"),
        ("threads", int, "CPU threads within one operation"),
    ):
        default = _DEFAULTS[name]
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, default=default, help=f"{what} (default: {default})")
    refuse_foreign_replicas(environment)
    return Options(**vars(parser.parse_args(arguments)))


class _Termination:
    """Remembers SIGTERM, which Vertex AI sends some seconds before it takes the machine away, and Ctrl-C.

    The training loop looks here between its calls and writes a checkpoint; a second signal does not wait for that.
    """

    def __init__(self) -> None:
        self.is_requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise SystemExit(EXIT_INTERRUPTED)
        self.is_requested = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code."""
    logs.configure()
    termination = _Termination()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments, os.environ)
        job.run(options, lambda: termination.is_requested)
    except TrainerError as error:
        logs.error("training.refused", error=str(error), value=error.value, place=error.place, mend=error.mend)
        return EXIT_REFUSED
    except Interrupted:
        logs.warning("training.interrupted", mend="start the job again: it goes on from the checkpoint")
        return EXIT_INTERRUPTED
    except OSError as error:
        mend = "check the path, its permissions and the free space"
        logs.error("training.failed", error=str(error), value=error.strerror, place=error.filename, mend=mend)
        return EXIT_UNEXPECTED
    except Exception as error:  # noqa: BLE001  the process ends here, and the last line must tell why
        logs.error("training.failed", with_traceback=True, error=f"{type(error).__name__}: {error}")
        return EXIT_UNEXPECTED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())

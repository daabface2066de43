"""``basicsr train`` and ``basicsr test``, with every installed plugin registered.

Exit codes: 0 on success; 1 after an unexpected error, with its traceback; 2 after an error that the user can correct,
explained on stderr; 128 + N after signal N, such as 130 for Ctrl-C and 143 for SIGTERM.
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightbsr.errors import UserError
from lightbsr_arch.plugins import load_plugins
from lightbsr_arch.training.stop import Stopped, StopRequest

if TYPE_CHECKING:
    from lightbsr_arch.training.pipeline import Training
    from lightbsr_arch.training.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    args = build_parser().parse_args(argv)
    try:
        load_plugins()
        return _run(args)
    except UserError as error:
        # The error of a loader process starts with its traceback.
        _report(str(error).rpartition("UserError: ")[2].strip(), logging.ERROR)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:
        if not _logger().handlers:
            raise
        _logger().exception("Stopped by an unexpected error.")
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of both commands, which have BasicSR's flags."""
    parser = argparse.ArgumentParser(
        prog="basicsr", description="Train and test BasicSR models, including those of installed plugins."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,test}")
    train = commands.add_parser(
        "train",
        help="run the training that an options file describes",
        description="Run the training that an options file describes, in experiments/NAME of the current folder. "
        "Ctrl-C (and SIGTERM, SIGUSR1, SIGHUP) saves a checkpoint. With --auto_resume, the same command continues.",
        epilog="Several GPUs or processes: torchrun --nproc_per_node=N -m lightbsr_arch.training train "
        "-opt FILE --launcher pytorch",
    )
    test = commands.add_parser(
        "test",
        help="run a trained model on test sets",
        description="Run a trained model on the options file's test sets; pictures and the log go to results/NAME "
        "of the current folder.",
    )
    for command in (train, test):
        command.add_argument("-opt", metavar="FILE", required=True, help="options file (YAML)")
        if command is train:
            command.add_argument(
                "--auto_resume", action="store_true", help="continue from the last checkpoint in experiments/NAME"
            )
        command.add_argument(
            "--force_yml",
            nargs="+",
            default=[],
            metavar="KEY=VALUE",
            help="set options for this run, such as train:ema_decay=0.999",
        )
        command.add_argument("--debug", action="store_true", help="log every iteration, save and validate often")
        command.add_argument(
            "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="launcher of several processes"
        )
        command.add_argument("--local_rank", "--local-rank", type=int, metavar="N", help="set by the launcher")
    return parser


def _run(args: argparse.Namespace) -> int:
    # These import PyTorch, which `basicsr --help` does not need.
    from lightbsr_arch.basicsr_patches.everything import patched_basicsr
    from lightbsr_arch.config.load import load_options
    from lightbsr_arch.training.run_folder import RunFolder

    file, is_train = Path(args.opt), args.command == "train"
    with patched_basicsr():
        options = load_options(file, is_train=is_train, overrides=args.force_yml)
        folder = RunFolder(file)
        return _train(args, options, folder) if is_train else _test(args, options, folder)


def _train(args: argparse.Namespace, options: dict[str, Any], folder: "RunFolder") -> int:
    from lightbsr_arch.training.pipeline import Training

    stop = StopRequest()
    training = Training(folder, stop)
    stop.listen()
    try:
        with _started(args, options, folder) as opt:
            training.run(opt)
    except Stopped:
        _report(_how_to_continue(args, training), logging.WARNING)
    else:
        if stop.signum:
            _report("Training had ended, and the network is saved; its validation was left out.", logging.WARNING)
    return stop.exit_code


def _test(args: argparse.Namespace, options: dict[str, Any], folder: "RunFolder") -> int:
    from lightbsr_arch.training.pipeline import run_tests

    with _started(args, options, folder) as opt:
        run_tests(opt, folder)
    return 0


@contextmanager
def _started(args: argparse.Namespace, options: dict[str, Any], folder: "RunFolder") -> Iterator[dict[str, Any]]:
    """Yield the complete options. Within the block, several processes are joined. After it, the folder is released."""
    from torch import distributed

    from lightbsr_arch.training.options import complete_options

    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    flags = {name: getattr(args, name, False) for name in ("auto_resume", "debug")}
    try:
        yield complete_options(
            options, is_train=args.command == "train", root=Path.cwd(), launcher=args.launcher, **flags
        )
        if distributed.is_initialized():
            distributed.barrier()  # only the first process validates; the others must wait for it
    finally:
        folder.release()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _how_to_continue(args: argparse.Namespace, training: "Training") -> str:
    if training.saved:
        module = "-m lightbsr_arch.training"
        start = {"none": "basicsr", "pytorch": f"torchrun ... {module}", "slurm": f"srun ... python {module}"}
        words = ["-opt", args.opt, "--launcher", args.launcher] if args.launcher != "none" else ["-opt", args.opt]
        words += ["--debug"] * args.debug + ["--auto_resume"]
        words += ["--force_yml", *args.force_yml] if args.force_yml else []
        command = f"{start[args.launcher]} train {shlex.join(words)}"
        return f"Stopped and saved iteration {training.last}. To continue: {command}"
    if training.last == training.first:
        return f"Stopped before iteration {training.first + 1} was done: nothing new to save."
    return "Stopped at once, without saving; --auto_resume continues from the last checkpoint."


def _report(message: str, level: int) -> None:
    """Log a message or, if there is no log yet, print it to stderr. Every process reports errors."""
    if _logger().handlers:
        _logger().log(level, message)
    else:
        print(message, file=sys.stderr, flush=True)


def _logger() -> logging.Logger:
    return logging.getLogger("basicsr")

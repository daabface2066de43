"""``basicsr train`` and ``basicsr test``: BasicSR's own pipelines, with every installed plugin registered.

Exit codes: 0 done; 1 an unexpected error, with its traceback; 2 something the user can put right, said on stderr;
130 and 143 stopped by Ctrl-C and by SIGTERM; 128 + its number for SIGUSR1 and SIGHUP likewise.
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightbsr_arch.cli.stop import Stopped, StopRequest
from lightbsr_arch.errors import UserError

if TYPE_CHECKING:
    from lightbsr_arch.cli.run_folder import RunFolder

PLUGINS = "basicsr.plugins"
"""Entry-point group: loading an entry registers a distribution's classes in BasicSR's registries."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        load_plugins()
        return _train(args) if args.command == "train" else _test(args)
    except UserError as error:
        # A loader process puts its traceback before the message.
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
    """BasicSR's flags, once for training and once for testing."""
    parser = argparse.ArgumentParser(
        prog="basicsr", description="Train and test BasicSR models, those of installed plugins included."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,test}")
    train = commands.add_parser(
        "train",
        help="train what an options file describes",
        description="Train what an options file describes, in experiments/NAME of the current folder. "
        "Ctrl-C (and SIGTERM, SIGUSR1, SIGHUP) saves a checkpoint, from which the same command with --auto_resume goes "
        "on.",
        epilog="Several GPUs or processes: torchrun --nproc_per_node=N -m lightbsr_arch.cli.basicsr train "
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
                "--auto_resume", action="store_true", help="go on from the last checkpoint in experiments/NAME"
            )
        command.add_argument(
            "--force_yml",
            nargs="+",
            default=[],
            metavar="KEY=VALUE",
            help="set options for this run, as train:ema_decay=0.999",
        )
        command.add_argument("--debug", action="store_true", help="log every iteration, save and validate often")
        command.add_argument(
            "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="what starts several processes"
        )
        command.add_argument("--local_rank", "--local-rank", type=int, metavar="N", help="set by the launcher")
    return parser


def load_plugins() -> None:
    """Import every plugin.

    Raises:
        UserError: a plugin cannot be imported; without it an options file would fail later and less clearly.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:
            source = f" of {plugin.dist.name} {plugin.dist.version}" if plugin.dist else ""
            raise UserError(
                f"BasicSR plugin {plugin.name}{source} cannot be imported: {type(error).__name__}: {error} "
                f'(python -c "import {plugin.module}" shows where)'
            ) from error


def _train(args: argparse.Namespace) -> int:
    from basicsr import train

    from lightbsr_arch import compat
    from lightbsr_arch.cli.training import TrainingLoop

    folder = _prepare(args, is_train=True)
    stop = StopRequest()
    loop = TrainingLoop(stop, folder)
    compat.follow_training(loop)
    stop.listen()
    try:
        _run(train.train_pipeline, folder)
    except Stopped:
        _report(_how_to_continue(args, loop), logging.WARNING)
    else:
        if stop.signum:
            _report("Training had ended, and the network is saved; its validation was left out.", logging.WARNING)
    return stop.exit_code


def _test(args: argparse.Namespace) -> int:
    from basicsr import test

    from lightbsr_arch import compat

    folder = _prepare(args, is_train=False)
    compat.follow_testing(folder)
    _run(test.test_pipeline, folder)
    return 0


def _prepare(args: argparse.Namespace, *, is_train: bool) -> "RunFolder":
    """Check the options before anything is created, and have BasicSR use them; returns the run's folder."""
    from lightbsr_arch import compat
    from lightbsr_arch.cli.run_folder import RunFolder
    from lightbsr_arch.config.load import load_options

    file = Path(args.opt)
    options = load_options(file, is_train=is_train, overrides=args.force_yml)
    if options.get("manual_seed") is None:
        options["manual_seed"] = 0  # BasicSR's is random: never the same in a resumed run, nor in two processes
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    flags = [f"--{name}" for name in ("auto_resume", "debug") if getattr(args, name, False)]
    compat.use_options(options, file, ["--launcher", args.launcher, *flags])
    return RunFolder(file)


def _run(pipeline: Any, folder: "RunFolder") -> None:
    from torch import distributed

    try:
        pipeline(str(Path.cwd()))
        if distributed.is_initialized():
            distributed.barrier()  # the first process alone validates, and the others must not leave it meanwhile
    finally:
        folder.release()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _how_to_continue(args: argparse.Namespace, loop: Any) -> str:
    if loop.saved:
        start = {"none": "basicsr", "pytorch": "torchrun ... -m lightbsr_arch.cli.basicsr"}
        words = ["-opt", args.opt, "--launcher", args.launcher] if args.launcher != "none" else ["-opt", args.opt]
        words += ["--debug"] * args.debug + ["--auto_resume"]
        words += ["--force_yml", *args.force_yml] if args.force_yml else []
        command = start.get(args.launcher, "srun ... python -m lightbsr_arch.cli.basicsr")
        return f"Stopped and saved iteration {loop.last}. To continue: {command} train {shlex.join(words)}"
    if loop.last == loop.first:
        return f"Stopped before iteration {loop.first + 1} was done: nothing new to save."
    return "Stopped at once, without saving; --auto_resume goes on from the last checkpoint."


def _report(message: str, level: int) -> None:
    """Say something on stderr, and in the log file once there is one; of several processes, all tell errors."""
    if _logger().handlers:
        _logger().log(level, message)
    else:
        print(message, file=sys.stderr, flush=True)


def _logger() -> logging.Logger:
    return logging.getLogger("basicsr")


if __name__ == "__main__":
    sys.exit(main())

"""Runs commands in processes forked from one that has imported the package, because the import takes seconds."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
TIMED_OUT = -signal.SIGALRM


def run_module(
    module: str,
    *arguments: object,
    cwd: Path,
    path: Iterable[Path] = (),
    processes: int = 1,
    timeout: int = 120,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module arguments`` and wait for its end.

    Args:
        module: module with a ``__main__``, such as lightbsr_arch.training.
        arguments: its arguments.
        cwd: folder in which it runs.
        path: folders before ``sys.path``.
        processes: number of processes, each in a session of its own. Several have torchrun's environment variables.
        timeout: seconds after which they are killed.

    Raises:
        subprocess.TimeoutExpired: they did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        words = list(map(str, arguments))
        request = {
            "module": module, "arguments": words, "cwd": str(cwd), "path": list(map(str, path)),
            "outputs": [str(out), str(err)], "environments": _environments(processes), "timeout": timeout,
        }  # fmt: skip
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(request), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        done = subprocess.CompletedProcess([module, *words], code, out.read_text(), err.read_text())
    if code == TIMED_OUT:
        raise subprocess.TimeoutExpired(done.args, timeout, done.stdout, done.stderr)
    return done


def _environments(processes: int) -> list[dict[str, str]]:
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


@cache
def _server() -> "subprocess.Popen[str]":
    """Start the process that forks. It ends when its standard input is closed, at the latest with this process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.commands"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def _serve(answers: IO[str]) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        children = []
        for environment in request["environments"]:
            child = os.fork()
            if child == 0:
                answers.close()
                _run(request, environment)
                return
            children.append(child)
        print(_wait(children, request["timeout"]), file=answers, flush=True)


def _run(request: dict[str, Any], environment: dict[str, str]) -> None:
    """Run the command in this process."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(request["outputs"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.path[:0] = request["path"]
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _wait(children: list[int], timeout: int) -> int:
    """Return the first exit status that is not 0, or 0. It is negative for a signal, as in ``subprocess``."""
    end = time.monotonic() + timeout
    running, failure = set(children), 0
    while running:
        if time.monotonic() > end:
            for child in running:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return TIMED_OUT
        for child in [*running]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                running.remove(child)
                failure = failure or os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return failure


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may be printed between the answers

    import lightbsr_arch.training.command  # noqa: F401

    _serve(channel)

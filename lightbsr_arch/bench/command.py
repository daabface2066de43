"""One run of ``lightbsr bench``, from the options to the files."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lightbsr_arch.bench.cache import Cache
from lightbsr_arch.bench.config import default_bench, read_config
from lightbsr_arch.bench.report import html_report
from lightbsr_arch.bench.runner import Runner
from lightbsr_arch.bench.tables import csv_table, failures, markdown, summarise
from lightbsr_arch.errors import UserError
from lightbsr_arch.io import write_whole
from lightbsr_arch.plugins import load_plugins


def bench(config: Path | None, flags: dict[str, Any], output: Path, device_name: str | None = None) -> int:
    """Run a bench and write its report.

    Args:
        config: CONFIG.yml, or None for the default and ``flags``.
        flags: options that take the place of the default's.
        output: folder of the report and of the cache.
        device_name: as PyTorch names it; CUDA where there is one unless given.

    Returns:
        The exit code: 1 where something failed, which the report names.
    """
    if config is not None and flags:
        raise UserError(f"{config} says it all ({', '.join(flags)} too): leave out the flags, or the file")
    device = _device(device_name)
    load_plugins()
    options = default_bench(**flags) if config is None else read_config(config)
    cache = Cache(output / "cache.sqlite")
    start = time.perf_counter()
    try:
        runner = Runner(options, cache, device)
        results = runner.run()
    except KeyboardInterrupt:
        print(f"What is done is in {cache.path}; the same command goes on from there.", file=sys.stderr)
        raise
    finally:
        cache.close()
    summary = summarise(options, results, device)
    files = {
        "table.md": markdown(summary),
        "results.csv": csv_table(summary),
        "results.json": json.dumps({key: value for key, value in summary.items() if key != "crops"}, indent=1),
        "report.html": html_report(summary),
    }
    for name, text in files.items():
        write_whole(output / name, text.encode())
    print(markdown(summary))
    for line in failures(summary):
        print(line, file=sys.stderr)
    seconds = time.perf_counter() - start
    print(f"{results.computed} pictures upscaled, {seconds:.0f} s. Written to {output}: {', '.join(files)}")
    return 0 if results.complete else 1


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device

"""``lightbsr web``."""

import argparse
import ipaddress
import os
import socket
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lightbsr.commands.argument_types import positive
from lightbsr.commands.inspect import COLUMNS, cells
from lightbsr.commands.outcome import ending_at_signals
from lightbsr.errors import UserError

if TYPE_CHECKING:
    from lightbsr_arch.analysis.inspected_files import Inspected

HELP = "serve a local page that upscales pictures"
DESCRIPTION = (
    "Serve a page on which pictures are upscaled, compared and downloaded. Without --host, it is reachable from this "
    "machine only. It makes no requests to other machines. Uploads and results are in a temporary folder, which is "
    "deleted at the end. Ctrl-C ends the command."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on; 0: any free port (7860)")
    parser.add_argument("--max-mb", type=positive, default=50, metavar="N", help="largest upload in MB (50)")
    parser.add_argument(
        "--max-megapixels", type=positive, default=24, metavar="N", help="largest picture in megapixels (24)"
    )
    parser.add_argument("--max-pictures", type=int, default=20, metavar="N", help="largest number of pictures (20)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")


def run(args: argparse.Namespace) -> int:
    if find_spec("gradio") is None:
        raise UserError("the page is served with gradio: pip install 'lightbsr-arch[web]'")
    if args.max_pictures < 1:
        raise UserError(f"--max-pictures {args.max_pictures}: expected 1 or more")
    port = _free_port(args.host, args.port)

    with (
        ending_at_signals(),
        tempfile.TemporaryDirectory(prefix="lightbsr-web-", ignore_cleanup_errors=True) as folder,
    ):
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from lightbsr_arch.plugins import load_plugins
        from lightbsr_arch.web.page import build, launch
        from lightbsr_arch.web.session import Limits, Session

        load_plugins()
        results = Path(folder) / "results"
        results.mkdir()
        session = Session(results, args.device, Limits(args.max_mb, args.max_megapixels, args.max_pictures), describe)
        page = build(session)
        launch(page, args.host, port, args.max_mb)
        if not _is_loopback(args.host):
            print(
                f"warning: {args.host} can be reached from other machines, and the page has no password",
                file=sys.stderr,
                flush=True,
            )
        print(f"Open http://{_in_address(args.host)}:{port} in a browser; Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return 0


def describe(one: "Inspected") -> str:
    """Return the figures of `lightbsr inspect` for a picture, one per line, and the reason for the chosen weights."""
    assert one.reading is not None
    lines = [f"{name}: {cell}" for name, cell in zip(COLUMNS, cells(one)) if cell]
    return "\n".join([*lines, f"{one.reading.model}: {one.reading.why}"])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free port if it is 0. Raise `UserError` if the page cannot listen on it."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: expected 0 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there: {error.strerror or error}") from None

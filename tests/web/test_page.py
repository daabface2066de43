"""``lightbsr web``: the served page, driven as a browser drives it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightbsr.commands import main
from lightbsr_arch.data.reader import read_picture
from tests.corpus import base

RGB = np.ascontiguousarray(base()[..., ::-1])


def has_gradio() -> bool:
    from importlib.util import find_spec

    return find_spec("gradio") is not None


needs_gradio = pytest.mark.skipif(not has_gradio(), reason="the page needs gradio: pip install 'lightbsr-arch[web]'")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start the command, and yield the page's address and the folder for temporary files."""
    folder = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "lightbsr", "web", "--port", "0", "--max-pictures", "5"]
    command += ["--max-mb", "0.3", "--max-megapixels", "0.01", "--device", "cpu"]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+) in a browser; Ctrl-C ends it\n", line)
    if match is None:
        process.kill()
        raise AssertionError(line + process.communicate()[1])
    yield match[1], folder
    process.send_signal(signal.SIGHUP)  # as when its terminal is closed
    _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGHUP
    assert err.endswith("lightbsr web: stopped\n")  # after gradio's log of the refused requests
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def client(server: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    from gradio_client import Client

    return Client(server[0], verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def call(url: str, data: list[object]) -> str:
    """Send inputs without gradio's client, which would upload local files. Return the events of the answer."""
    address = f"{url}/gradio_api/call/upscale"
    body = json.dumps({"data": data}).encode()
    with urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"})) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}") as answer:
        return str(answer.read().decode())


@needs_gradio
@pytest.mark.slow
def test_the_download_equals_the_commands_output(client, tmp_path):
    from gradio_client import handle_file

    deep = tmp_path / "deep.png"
    Image.fromarray(RGB[:40, :40, 0].astype(np.uint16) * 257).save(deep)
    photo, broken = tmp_path / "photo.jpg", tmp_path / "broken.png"
    Image.fromarray(RGB).save(photo, quality=90)
    broken.write_bytes(deep.read_bytes()[:60])
    large = tmp_path / "large.png"
    Image.new("RGB", (120, 120)).save(large)
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    uploads = [handle_file(str(path)) for path in (photo, broken, large, notes, deep)]
    messages, files, slider, text, *_ = client.predict(uploads, "kdsr_s_x4_iso", 1, api_name="/upscale")
    lines = messages.splitlines()
    assert lines[0].startswith("broken.png: failed: cut short or damaged")
    assert lines[1:] == [
        "large.png: failed: 120x120 pixels, 0.0 megapixels; at most 0.01 are accepted",
        "notes.txt: failed: not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF, HEIC)",
        "2 of 5 pictures upscaled",
    ]
    assert [Path(file).name for file in files] == ["photo_x4.jpg", "deep_x4.png"]
    assert main(["upscale", str(photo), str(deep), "-o", str(tmp_path / "out"), "-m", "kdsr_s_x4_iso", "-q"]) == 0
    for file, name in zip(files, ("photo.jpg", "deep.png"), strict=True):
        made, wanted = read_picture(Path(file)).pixels, read_picture(tmp_path / "out" / name).pixels
        assert made.dtype == wanted.dtype
        assert np.array_equal(made, wanted)
    with Image.open(slider[0]) as before, Image.open(slider[1]) as after:
        assert before.size == after.size == (4 * RGB.shape[1], 4 * RGB.shape[0])
    assert text.startswith("sigma (px): ")
    assert "\nfile quality: 90\n" in text
    assert text.splitlines()[-1].startswith("kdsr_s_x4_photo: it is a JPEG of quality 90")


@needs_gradio
@pytest.mark.slow
def test_wrong_choices_are_one_line(client, tmp_path):
    from gradio_client import handle_file

    Image.fromarray(RGB).save(tmp_path / "a.png")
    uploads = [handle_file(str(tmp_path / "a.png"))]

    def messages(*inputs: object) -> list[str]:
        return str(client.predict(*inputs, api_name="/upscale")[0]).splitlines()

    assert messages(None, "kdsr_s_x4_iso", 1) == ["add a picture first", "0 of 0 pictures upscaled"]
    assert messages(6 * uploads, "auto", 1)[0] == "6 pictures; at most 5 are upscaled at a time"
    assert messages(uploads, "auto", 0.5)[0].startswith("a strength needs one model")
    assert messages(uploads, "kdsr_s_x4_real", 0.5)[0].startswith("the sharpness of this model's output hardly follows")


@needs_gradio
@pytest.mark.slow
def test_no_other_file_is_readable(server):
    url, folder = server
    secret = Path.cwd() / "setup.py"
    (folder / "secret.txt").write_text("secret")
    for path in ("/etc/passwd", str(secret), "setup.py", "/proc/self/environ", str(folder / "secret.txt")):
        for quoted in (path, urllib.parse.quote(path, safe=""), f"/tmp/../{path}"):
            assert status(f"{url}/gradio_api/file={quoted}") in (403, 404), quoted
    (folder / "secret.txt").unlink()
    for remote in (
        "file=http://127.0.0.1:1/a.png",
        "file=https%3A%2F%2Fexample.com%2Fa.png",
        "proxy=https://example.com/",
    ):
        assert status(f"{url}/gradio_api/{remote}") == 403
    outside = Path.cwd() / "docs" / "images" / "web.webp"
    assert outside.exists()
    for path in ("/etc/passwd", str(secret), str(outside)):
        upload = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        events = call(url, [upload, "kdsr_s_x4_iso", 1])
        assert "event: error" in events
        assert "event: complete" not in events


@needs_gradio
@pytest.mark.slow
def test_a_large_upload_is_refused(client, tmp_path):
    from gradio_client import handle_file

    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(Exception, match=r"(?i)413|size"):
        client.predict([handle_file(str(tmp_path / "noise.png"))], "kdsr_s_x4_iso", 1, api_name="/upscale")


@needs_gradio
@pytest.mark.slow
def test_the_page_names_no_other_server(server):
    with urllib.request.urlopen(server[0]) as answer:
        html = answer.read().decode()
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"?https?://(?!127\.0\.0\.1)", html)


@needs_gradio
def test_a_used_port_and_a_foreign_host_are_refused_in_one_line(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["web", "--port", str(port)]) == 2
        out, err = capfd.readouterr()
        assert (out, err) == (
            "",
            f"lightbsr web: --host 127.0.0.1 --port {port}: cannot listen there: Address already in use\n",
        )
    assert main(["web", "--host", "192.0.2.1"]) == 2
    assert capfd.readouterr().err.startswith("lightbsr web: --host 192.0.2.1 --port 7860: cannot listen there: ")
    assert main(["web", "--port", "70000"]) == 2
    assert capfd.readouterr().err == "lightbsr web: --port 70000: expected 0 to 65535\n"


@pytest.mark.skipif(has_gradio(), reason="gradio is installed")
def test_a_missing_gradio_is_named(capfd):
    assert main(["web"]) == 2
    assert capfd.readouterr().err == "lightbsr web: the page is served with gradio: pip install 'lightbsr-arch[web]'\n"

"""Archives from a server on this machine that supports Range, as the published hosts do."""

import functools
import hashlib
import io
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightbsr.errors import UserError
from lightbsr_arch.data.archives import Archive, check, download, extract

PICTURES = {
    f"{i:04d}.png": cv2.imencode(".png", np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8))[
        1
    ].tobytes()
    for i in range(3)
}


def zip_bytes(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tar_bytes(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


class Server:
    """Serves ``files``. Responses end after ``cut`` bytes, if given. ``log`` contains the Range of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.log: list[str | None] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def archive(self, name: str, data: bytes, **fields: object) -> Archive:
        self.files[f"/{name}"] = data
        url = f"http://127.0.0.1:{self.http.server_port}/{name}"
        return Archive(url, **{"members": r"set/HR/\d{4}\.png", "pictures": 3, **fields})


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.state = server
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.state.log.append(asked)
        data = self.state.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.headers.get("If-Range") == tag else 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.state.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


GOOD = {f"set/HR/{name}": data for name, data in PICTURES.items()}


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zip_bytes), ("a.tar", tar_bytes)])
def test_download_check_extract(server: Server, tmp_path: Path, name: str, pack) -> None:
    others = {"set/LR/0000.png": b"low", "set/HR/notes.txt": b"text"}
    data = pack({**GOOD, **others})
    archive = server.archive(name, data, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    download(archive, tmp_path)
    check(archive, tmp_path)
    extract(archive, tmp_path, tmp_path / "HR")
    assert {path.name: path.read_bytes() for path in (tmp_path / "HR").iterdir()} == PICTURES
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "HR"])
    download(archive, tmp_path)
    assert server.log == [None]  # an existing file is not requested again


def test_a_download_that_ends_early_is_continued(server: Server, tmp_path: Path) -> None:
    data = zip_bytes(GOOD)
    archive = server.archive("a.zip", data)
    server.cut = 1000
    for received in (1000, 2000):
        with pytest.raises(
            UserError, match=rf"ended after {received} of {len(data)} bytes; the same command continues"
        ):
            download(archive, tmp_path)
    server.cut = None
    download(archive, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == data
    assert server.log == [None, "bytes=1000-", "bytes=2000-"]


def test_a_complete_part_is_taken(server: Server, tmp_path: Path) -> None:
    data = zip_bytes(GOOD)
    archive = server.archive("a.zip", data)
    (tmp_path / "a.zip.part").write_bytes(data)
    (tmp_path / "a.zip.part.tag").write_text(f'"{hashlib.md5(data).hexdigest()}"')
    download(archive, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == data


def test_a_file_changed_on_the_server_is_begun_again(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.zip", zip_bytes(GOOD))
    server.cut = 1000
    with pytest.raises(UserError):
        download(archive, tmp_path)
    server.cut = None
    server.files["/a.zip"] = changed = zip_bytes({**GOOD, "more.txt": b"more"})
    download(archive, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == changed


def test_offline_and_refused_are_one_line(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError) as caught:
        download(Archive(f"http://127.0.0.1:{port}/a.zip", "", 0), tmp_path)
    assert "cannot be downloaded ([Errno 111] Connection refused); try again" in str(caught.value)
    assert "\n" not in str(caught.value)
    archive = server.archive("a.zip", b"")
    server.files.clear()
    with pytest.raises(UserError, match=r"a.zip cannot be downloaded \(Not Found\); .* put a.zip into .* yourself"):
        download(archive, tmp_path)


def test_check_finds_what_differs(tmp_path: Path) -> None:
    data = zip_bytes(GOOD)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "a.zip").write_bytes(data)
    url = "http://127.0.0.1/a.zip"
    with pytest.raises(UserError, match=rf"a.zip: {len(data)} bytes, expected 5;"):
        check(Archive(url, "", 3, size=5), tmp_path)
    with pytest.raises(UserError, match=rf"a.zip: SHA-256 {digest}, expected 00;"):
        check(Archive(url, "", 3, sha256="00"), tmp_path)
    with pytest.raises(UserError, match=r"b.zip is missing; --download fetches it from http://127.0.0.1/b.zip"):
        check(Archive("http://127.0.0.1/b.zip", "", 3), tmp_path)
    check(Archive(url, "", 3), tmp_path)  # nothing is published, so the digest is stored
    assert (tmp_path / "a.zip.sha256").read_text() == f"{digest}  a.zip\n"
    (tmp_path / "a.zip").write_bytes(data[:-1] + b"x")
    with pytest.raises(UserError, match=rf"expected {digest}"):
        check(Archive(url, "", 3), tmp_path)


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zip_bytes), ("a.tar", tar_bytes)])
def test_no_member_leads_out(tmp_path: Path, name: str, pack) -> None:
    evil = {"../set/HR/0007.png": b"evil", "/tmp/set/HR/0008.png": b"evil", "set/HR/../../../0009.png": b"evil"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(pack({**evil, **GOOD}))
    extract(Archive(f"http://x/{name}", r".*\.png", 6), tmp_path / "in", tmp_path / "in" / "HR")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {f"in/HR/{i:04d}.png" for i in (0, 1, 2, 7, 8, 9)}


def test_links_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    file = io.BytesIO(tar_bytes(GOOD))
    with tarfile.open(fileobj=file, mode="a") as archive:
        link = tarfile.TarInfo("set/HR/0009.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    extract(Archive("http://x/a.tar", r"set/HR/\d{4}\.png", 3), tmp_path, tmp_path / "HR")
    assert sorted(path.name for path in (tmp_path / "HR").iterdir()) == sorted(PICTURES)


def test_damaged_or_short_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes(GOOD)[:-100])
    with pytest.raises(UserError, match=r"a.zip: cannot be extracted"):
        extract(Archive("http://x/a.zip", ".*", 3), tmp_path, tmp_path / "HR")
    (tmp_path / "b.tar").write_bytes(tar_bytes(GOOD)[:6000])
    with pytest.raises(UserError, match=r"b.tar: 1 pictures '\.\*', expected 3"):
        extract(Archive("http://x/b.tar", ".*", 3), tmp_path, tmp_path / "HR")
    (tmp_path / "c.zip").write_bytes(zip_bytes(GOOD))
    with pytest.raises(UserError, match=r"c.zip: 3 pictures .*, expected 800"):
        extract(Archive("http://x/c.zip", r"set/HR/\d{4}\.png", 800), tmp_path, tmp_path / "HR")
    assert not (tmp_path / "HR").exists()


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zip_bytes), ("a.tar", tar_bytes)])
@pytest.mark.parametrize("member", ["set/..", "..\\..\\0000.png", "set/a\n.png", "set/" + "x" * 250 + ".png"])
def test_members_with_hostile_names_are_refused(tmp_path: Path, name: str, pack: Callable, member: str) -> None:
    (tmp_path / name).write_bytes(pack({member: b"x"}))
    with pytest.raises(UserError, match=rf"{name}: a picture's name, "):
        extract(Archive(f"http://x/{name}", r"(?s).*", 1), tmp_path, tmp_path / "in" / "HR")
    assert not (tmp_path / "in" / "HR").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "in"]


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes({"a/1.png": b"x", "b/1.png": b"y"}))
    with pytest.raises(UserError, match=r"a.zip: two pictures are named 1.png"):
        extract(Archive("http://x/a.zip", ".*", 2), tmp_path, tmp_path / "HR")

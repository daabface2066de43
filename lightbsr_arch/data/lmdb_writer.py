"""Writing of an LMDB. At any moment, the LMDB is missing, complete, or marked as unfinished.

Unfinished work is in ``OUT.lmdb.partial/``::

    recipe.json     sources and settings; a later run continues only the same recipe
    done.jsonl      one line per picture whose entries are committed
    lmdb/           the database, renamed to ``OUT.lmdb`` when all is done

A picture's line is appended after its entries are committed, so every listed picture is complete. A run that continues
writes entries without a line again, with the same bytes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from lightbsr.errors import UserError
from lightbsr_arch.data.meta_info import META_INFO, MetaLine
from lightbsr_arch.io import write_whole
from lightbsr_arch.locks import FileLock

_BATCH_BYTES = 32 << 20  # committed at once; limits memory and the loss after an interruption
_FIRST_MAP = 2 * _BATCH_BYTES


class LmdbWriter:
    """Writes encoded images picture by picture. As a context manager, it can be continued after any exception.

    Attributes:
        done: names of the pictures finished so far, including those of an earlier interrupted run.
        bytes_put: bytes of image data written by this run.
    """

    def __init__(self, out: Path, recipe: dict[str, Any], overwrite: bool = False) -> None:
        """Start a run, or continue an unfinished one.

        Args:
            out: the target, whose name must end with ``.lmdb`` for BasicSR's readers.
            recipe: JSON values that determine the result. A run is continued only if its recipe is equal.
            overwrite: whether to replace a complete target once the new one is complete, and to discard an unfinished
                run of another recipe.

        Raises:
            UserError: the target exists, is unfinished with another recipe, or is being written by another process.
        """
        if out.suffix != ".lmdb":
            raise UserError(f"{out}: the name of the target must end with .lmdb (BasicSR's readers ask for it)")
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.done: dict[str, list[MetaLine]] = {}
        self.bytes_put = 0
        self._batch: list[tuple[bytes, bytes]] = []
        self._batch_bytes = 0
        self._batch_done: list[tuple[str, list[MetaLine]]] = []
        self._overwrite = overwrite
        self._refuse_finished()
        with self._writing():
            self.partial.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.partial / "lock", f"{self.out} is being prepared by another process")
            self._settle_recipe(recipe)
            self._load_done()
            self._env = lmdb.open(str(self._database), map_size=_FIRST_MAP)

    def put(self, key: str, data: bytes) -> None:
        """Add one entry. It is written to disk together with its picture."""
        self._batch.append((key.encode("ascii"), data))
        self._batch_bytes += len(data)
        self.bytes_put += len(data)
        if self._batch_bytes >= _BATCH_BYTES:
            self._commit()

    def finish_picture(self, name: str, lines: list[MetaLine]) -> None:
        """State that all entries of a picture have been put."""
        self._batch_done.append((name, lines))

    def finish(self, order: Sequence[str]) -> list[MetaLine]:
        """Commit, write ``meta_info.txt`` with the pictures in this order, and rename the folder to the target."""
        self._commit()
        lines = [line for name in order for line in self.done.get(name, [])]
        with self._writing():
            self._env.close()
            with (self._database / META_INFO).open("w", encoding="ascii", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            if self._overwrite and self.out.exists():
                # The old target is renamed before it is deleted, so that it never lacks some of its files.
                replaced = self.partial / "replaced"
                shutil.rmtree(replaced, ignore_errors=True)
                self.out.rename(replaced)
            self._database.rename(self.out)
            shutil.rmtree(self.partial)
        return lines

    def discard(self) -> None:
        """Delete the unfinished run, which has no entries. The target, if it exists, is left unchanged."""
        with self._writing():
            self._env.close()
            shutil.rmtree(self.partial)

    def __enter__(self) -> "LmdbWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._env.close()
        self._lock.release()

    @property
    def _database(self) -> Path:
        return self.partial / "lmdb"

    @property
    def _done_file(self) -> Path:
        return self.partial / "done.jsonl"

    def _refuse_finished(self) -> None:
        if self._overwrite or not self.out.exists():
            return
        if self.partial.exists() and not self._database.exists():  # stopped between the last two steps of finish()
            shutil.rmtree(self.partial)
        raise UserError(f"{self.out} exists and is left as it is; --overwrite replaces it")

    def _settle_recipe(self, recipe: dict[str, Any]) -> None:
        path = self.partial / "recipe.json"
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before == recipe and self._database.exists():
                return
            if before != recipe and not self._overwrite:
                changed = ", ".join(key for key in sorted({*before, *recipe}) if before.get(key) != recipe.get(key))
                raise UserError(
                    f"{self.partial} is an unfinished run with other settings (differing: {changed}); "
                    "finish it with those, or start again with --overwrite"
                )
            path.unlink()  # deleted first, because a folder without a recipe is never continued
        shutil.rmtree(self._database, ignore_errors=True)
        self._done_file.unlink(missing_ok=True)
        write_whole(path, json.dumps(recipe, ensure_ascii=True).encode())

    def _load_done(self) -> None:
        if not self._done_file.exists():
            return
        data = self._done_file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # without a last line that a kill cut short
        with self._done_file.open("r+b") as file:
            file.truncate(len(whole))
        for text in whole.splitlines():
            name, lines = json.loads(text)
            self.done[name] = [MetaLine(*line) for line in lines]

    def _commit(self) -> None:
        with self._writing():
            while not self._try_batch():
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            with self._done_file.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(item) + "\n" for item in self._batch_done)
        self.done.update(self._batch_done)
        self._batch, self._batch_bytes, self._batch_done = [], 0, []

    def _try_batch(self) -> bool:
        """Write one transaction. Return False, with nothing written, if the memory map is too small."""
        try:
            with self._env.begin(write=True) as transaction:
                for key, data in self._batch:
                    transaction.put(key, data)
        except lmdb.MapFullError:
            return False
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise UserError(
                f"{self.out}: cannot write ({error}; {_free_megabytes(self.partial)} MB free there); finished pictures "
                f"are kept in {self.partial.name}, and the same command continues"
            ) from None


def _free_megabytes(path: Path) -> int:
    """Return the free megabytes of the disk of a path. LMDB reports a full disk as an input/output error."""
    existing = next(parent for parent in [path, *path.absolute().parents] if parent.exists())
    return shutil.disk_usage(existing).free // 10**6

"""Build a release: wheel and sdist in ``dist``, checked, and a tag on the commit. Nothing is uploaded.

    python tools/release.py             # make release
    python tools/release.py --check     # only checks the files in dist

A release is refused if files are not committed, the tag exists, or ``CHANGELOG.md`` has no dated entry.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PACKAGES = ("lightbsr/", "lightbsr_arch/")
NEEDED = ("setup.py", "pyproject.toml", "README.md", "LICENSE")  # files that a build from the sdist needs
COMMANDS = ("lightbsr = lightbsr.commands:main", "basicsr = lightbsr_arch.training.command:main")


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if the release has problems, which are printed."""
    parser = argparse.ArgumentParser(description="Build wheel and sdist in dist, check them, and tag the commit.")
    parser.add_argument("--check", action="store_true", help="only check the files that are in dist already")
    args = parser.parse_args(argv)
    version = version_of((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not args.check:
        problems = [*unready(version)]
        if problems:
            return _failed(problems)
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.rmtree(ROOT / "build/lib", ignore_errors=True)  # setuptools would also pack files that have been deleted
        _run(sys.executable, "-m", "build", "--outdir", str(DIST))
    problems = [*check_dist(DIST, version, tracked())]
    if problems:
        return _failed(problems)
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    if not args.check:
        _run("git", "tag", "-a", f"v{version}", "-m", f"lightbsr-arch {version}")
        print(f"Tagged v{version}. To publish: git push origin v{version}, and twine upload dist/*")
    return 0


def version_of(project: str) -> str:
    """Return the version that the text of ``pyproject.toml`` states."""
    (version,) = re.findall(r'^version = "(.*)"$', project, re.MULTILINE)
    return version


def tracked() -> set[str]:
    """Return the files of the packages in the repository."""
    return set(_output("git", "ls-files", *PACKAGES).splitlines())


def unready(version: str) -> Iterator[str]:
    """Yield one line for each reason why the commit cannot be released."""
    if changed := _output("git", "status", "--porcelain").splitlines():
        yield f"{len(changed)} files are not committed, such as {changed[0][3:]}: commit or remove them"
    if _output("git", "tag", "--list", f"v{version}"):
        yield f"the tag v{version} exists: raise version in pyproject.toml"
    yield from undated((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)


def undated(changes: str, version: str) -> Iterator[str]:
    """Yield a line if the change log has no entry of the version, or if the entry has no date or no text."""
    entry = re.search(rf"^## {re.escape(version)}(?P<rest>.*)\n(?P<text>(?:(?!## ).*\n?)*)", changes, re.MULTILINE)
    if entry is None:
        yield f'CHANGELOG.md: no entry of this version: begin one with "## {version} (2026-01-31)"'
    elif not re.fullmatch(r" \(\d{4}-\d\d-\d\d\)", entry["rest"]):
        yield f'CHANGELOG.md: "## {version}{entry["rest"]}" has no date: expected "## {version} (2026-01-31)"'
    elif not entry["text"].strip():
        yield f"CHANGELOG.md: the entry of {version} is empty"


def check_dist(dist: Path, version: str, files: set[str]) -> Iterator[str]:
    """Yield one line for each problem of a wheel and an sdist.

    Args:
        dist: the folder that holds them.
        version: the version that both must have.
        files: the files of the packages. Both must hold all of them, and the wheel no others.
    """
    wheel = dist / f"lightbsr_arch-{version}-py3-none-any.whl"
    sdist = dist / f"lightbsr_arch-{version}.tar.gz"
    found = {path.name for path in dist.iterdir()} if dist.is_dir() else set()
    for name in sorted({wheel.name, sdist.name} - found):
        yield f"{dist / name}: no such file"
    for name in sorted(found - {wheel.name, sdist.name}):
        yield f"{dist / name}: a file of another version, or none of a release"
    if wheel.name in found:
        yield from _check_wheel(wheel, version, files)
    if sdist.name in found:
        yield from _check_sdist(sdist, files)


def _check_wheel(wheel: Path, version: str, files: set[str]) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = f"lightbsr_arch-{version}.dist-info/"
        yield from _differences(wheel, {name for name in names if not name.startswith(info)}, files)
        missing = {f"{info}METADATA", f"{info}entry_points.txt", f"{info}licenses/LICENSE"} - names
        yield from (f"{wheel.name}: lacks {name}" for name in sorted(missing))
        if missing:
            return
        metadata = HeaderParser().parsestr(archive.read(f"{info}METADATA").decode())
        if metadata["Version"] != version:
            yield f"{wheel.name}: its metadata state version {metadata['Version']}"
        commands = archive.read(f"{info}entry_points.txt").decode().splitlines()
        yield from (f"{wheel.name}: lacks the command {command}" for command in COMMANDS if command not in commands)


def _check_sdist(sdist: Path, files: set[str]) -> Iterator[str]:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    yield from _differences(sdist, names & files, files)
    yield from (f"{sdist.name}: lacks {name}" for name in NEEDED if name not in names)


def _differences(path: Path, found: set[str], files: set[str]) -> Iterator[str]:
    yield from (f"{path.name}: lacks {name}" for name in sorted(files - found))
    yield from (
        f"{path.name}: holds {name}, which is not in the repository's packages" for name in sorted(found - files)
    )


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def _failed(problems: Sequence[str]) -> int:
    print("\n".join(["No release:", *problems]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

import random
from pathlib import Path

import pytest

from lightbsr.errors import UserError
from lightbsr.names import unsafe_path
from lightbsr_arch.data.picture_files import find_pictures, find_pictures_outside, flat_names, lmdb_keys, without
from tests.corpus import too_deep


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def keys(*sources: Path | str, **options: str) -> dict[str, str]:
    return {picture.name: picture.key for picture in find_pictures([str(source) for source in sources], **options)}


def test_one_folder_gives_names_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.PNG", "sub/c.jpeg", "notes.txt", ".hidden.png", ".git/x.png", "noending")
    assert keys(tmp_path) == {"a.PNG": "a", "b.png": "b", "sub/c.jpeg": "sub/c"}
    assert list(keys(tmp_path)) == ["a.PNG", "b.png", "sub/c.jpeg"]


def test_several_sources_keep_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "DIV2K_train_HR/0001.png", "Flickr2K/Flickr2K_HR/0001.png")
    assert keys(tmp_path / "DIV2K_train_HR", tmp_path / "Flickr2K/Flickr2K_HR") == {
        "DIV2K_train_HR/0001.png": "DIV2K_train_HR/0001",
        "Flickr2K/Flickr2K_HR/0001.png": "Flickr2K/Flickr2K_HR/0001",
    }


def test_globs_files_and_repeats(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.jpg", "sub/d.png", "strange.xyz")
    assert list(keys(tmp_path / "*.png")) == ["a.png", "b.png"]
    assert list(keys(tmp_path / "**" / "*.png")) == ["a.png", "b.png", "sub/d.png"]
    assert list(keys(tmp_path / "c.jpg")) == ["c.jpg"]
    assert list(keys(tmp_path, tmp_path / "a.png", tmp_path / "strange.xyz")) == [
        "a.png",
        "b.png",
        "c.jpg",
        "strange.xyz",  # given by name, so its extension does not matter
        "sub/d.png",
    ]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "set/b.png")
    (tmp_path / "set" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")
    assert list(keys(tmp_path / "set")) == ["b.png", "link/a.png"]


def test_a_folder_that_cannot_be_listed_stands_among_the_pictures_with_its_reason(tmp_path: Path) -> None:
    touch(tmp_path / "set", "a.png", "sub/b.png")
    too_deep(tmp_path / "set" / "deep")
    pictures = find_pictures([tmp_path / "set"])
    assert [picture.problem for picture in pictures] == [None, "cannot be listed (File name too long)", None]
    assert [picture.name[:7] for picture in pictures] == ["a.png", "deep/dd", "sub/b.p"]
    assert set(pictures[1].path.parts[-15:]) == {"d" * 250}
    with pytest.raises(UserError, match=r"^--exclude: .*/deep/d.*: cannot be listed"):
        without(find_pictures([tmp_path / "set/a.png"]), pictures)


def test_links_that_lead_nowhere_or_to_themselves_are_left_to_the_reader(tmp_path: Path) -> None:
    touch(tmp_path, "set/a.png")
    for name, target in {"gone.png": "nowhere", "itself.png": "itself.png", "itself": "itself"}.items():
        (tmp_path / "set" / name).symlink_to(target)
    assert list(keys(tmp_path / "set")) == ["a.png", "gone.png", "itself.png"]


def test_missing_and_empty_sources_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt")
    with pytest.raises(UserError, match=r"gone: no such file or folder"):
        find_pictures([tmp_path / "gone"])
    with pytest.raises(UserError, match=r"empty: no pictures in this folder"):
        find_pictures([tmp_path / "empty"])


def test_every_ending_that_is_read_is_taken(tmp_path: Path) -> None:
    names = [f"a{i}{suffix}" for i, suffix in enumerate([".jfif", ".jpe", ".mpo", ".pgm", ".PBM", ".pnm", ".dib"])]
    touch(tmp_path, *names)
    assert list(keys(tmp_path)) == names


def test_pictures_that_are_not_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "a.png", "b.jxl", "sub/c.JXL", "d.psd", "notes.txt")
    assert list(keys(tmp_path)) == ["a.png"]
    assert capsys.readouterr().err == (
        f"passed over: 2 .jxl (not read), 1 .psd (not read); the first is {tmp_path / 'b.jxl'}\n"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"no pictures in this folder \(.*\); passed over: 2 .jxl \(not read\), 1 .psd"):
        keys(tmp_path)


def test_drop_suffix_makes_lr_keys_equal_hr_keys(tmp_path: Path) -> None:
    touch(tmp_path, "hr/0001.png", "hr/0002x4.png", "lr/0001x4.png", "lr/0002x4x4.png")
    assert list(keys(tmp_path / "lr", drop_suffix="x4").values()) == list(keys(tmp_path / "hr").values())


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("plain-1_x.png", "plain-1_x"),
        ("a.v1_s001.png", "a_v1_s001"),
        ("with space.png", "with_space"),
        ("café.png", "cafe"),
        ("東京 tower.png", "_tower"),
        ("x (2,3) 1.png", "x_2_3_1"),
        ("two\nlines.png", "two_lines"),
        ("v1.0/a.png", "v1_0/a"),
    ],
)
def test_safe_keys(tmp_path: Path, name: str, key: str) -> None:
    touch(tmp_path, name)
    assert keys(tmp_path) == {name: key}


def test_equal_keys_get_a_digest_each_whatever_the_order() -> None:
    names = ["a.png", "a.jpg", "b.png", "a b.png", "a.b.png", "x/c.png"]
    wanted = [name.rsplit(".", 1)[0] for name in names]
    keys = dict(zip(names, lmdb_keys(wanted, names), strict=True))
    assert len(set(keys.values())) == len(names)
    assert keys["b.png"] == "b"
    assert keys["x/c.png"] == "x/c"
    assert {keys["a.png"][:2], keys["a.jpg"][:2], keys["a b.png"][:4], keys["a.b.png"][:4]} == {"a-", "a_b-"}
    shuffled = random.Random(0).sample(names, len(names))
    assert dict(zip(shuffled, lmdb_keys([name.rsplit(".", 1)[0] for name in shuffled], shuffled), strict=True)) == keys


def test_a_key_that_looks_like_anothers_digest_stays_apart() -> None:
    first = lmdb_keys(["a", "a"], ["a.png", "a.jpg"])[0]
    names = ["a.png", "a.jpg", f"{first}.png"]
    assert len(set(lmdb_keys(["a", "a", first], names))) == 3


def test_long_names_fit_lmdb() -> None:
    names = ["d/" * 300 + "a.png", "d/" * 300 + "b.png"]
    long_keys = lmdb_keys([name[:-4] for name in names], names)
    assert max(map(len, long_keys)) + len("_s100000") <= 511
    assert long_keys[0] != long_keys[1]


def test_pictures_held_back_are_left_out_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.png", "all/b.png", "all/sub/c.png", "back/a.webp", "back/c.jpg", "other/z.png")
    every = find_pictures([tmp_path / "all"])
    kept = without(every, find_pictures([tmp_path / "back"]))
    assert [picture.name for picture in kept] == ["b.png"]
    with pytest.raises(UserError, match=r"no picture has the name of z\.png"):
        without(every, find_pictures([tmp_path / "other"]))
    with pytest.raises(UserError, match="leaves no picture"):
        without(every, every)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "//a//b/", "..", "/", "", "a\0b", "x" * 300, "a/./../b"])
def test_any_name_becomes_a_key_below_its_folder(name: str) -> None:
    (key,) = lmdb_keys([name], [name])
    assert unsafe_path(key) is None


def test_an_output_folder_that_a_glob_matches_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a_x4.png")
    found = find_pictures_outside([tmp_path / "*"], tmp_path / "out")
    assert [picture.path.name for picture in found] == ["a.png"]
    (tmp_path / "out" / "a_x4.png").unlink()
    assert len(find_pictures_outside([tmp_path / "*"], tmp_path / "out")) == 1
    with pytest.raises(UserError, match="no pictures in this folder"):
        find_pictures_outside([tmp_path / "out"], tmp_path / "out")


def test_flat_names_differ() -> None:
    same = flat_names(["a/b.png", "a_b.png", "c.png"])
    assert [name.partition("-")[0] for name in same] == ["a_b", "a_b", "c"]
    assert len({*same}) == 3
    assert flat_names(["a/b.png", "é.v2.png"]) == ["a_b", "é.v2"]

"""DF2K, the usual training set: the HR pictures of DIV2K (800) and Flickr2K (2650)."""

from pathlib import Path

from lightbsr_arch.data.archives import Archive, check, download, extract

DF2K = {
    "DIV2K_train_HR": Archive(
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
        r"DIV2K_train_HR/\d{4}\.png",
        pictures=800,
        # size and digest published by TensorFlow Datasets (url_checksums/div2k.txt)
        size=3530603713,
        sha256="9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    ),
    # No size and no digest are published for Flickr2K.
    "Flickr2K_HR": Archive(
        "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
        r"Flickr2K/Flickr2K_HR/\d{6}\.png",
        pictures=2650,
    ),
}


def fetch_df2k(folder: Path, online: bool) -> list[Path]:
    """Check and extract the published archives; return the folders of their HR pictures.

    Args:
        folder: folder of the archives. The pictures are extracted beside them.
        online: download the archives that are missing.

    Raises:
        UserError: an archive is missing, damaged or cannot be downloaded.
    """
    for name, archive in DF2K.items():
        _fetch(archive, folder, name, online)
    return [folder / name for name in DF2K]


def _fetch(archive: Archive, folder: Path, name: str, online: bool) -> None:
    """Extract the pictures of an archive into ``folder/name``, unless that exists."""
    if (folder / name).exists():
        return
    if online:
        download(archive, folder)
    check(archive, folder)
    extract(archive, folder, folder / name)

"""DF2K, the training set of the field: the HR pictures of DIV2K (800) and Flickr2K (2650) to one LMDB.

The archives, as published, lie in FOLDER or are fetched into it with --download (24 GB or so; what was interrupted is
continued). They are checked, the HR pictures are extracted beside them, and packed as by photos_to_lmdb.py.

    python datasets_prep/prepare_df2k.py datasets/DF2K datasets/DF2K.lmdb --download
"""

import argparse
import sys
from pathlib import Path

from lightbsr_arch.data.archives import Archive, check, download, extract
from lightbsr_arch.data.image_io import CODECS
from lightbsr_arch.data.lmdb_prepare import prepare_lmdb
from lightbsr_arch.data.picture_files import find_pictures
from lightbsr_arch.data.subimages import CropRule
from lightbsr_arch.errors import UserError

DF2K = {
    "DIV2K_train_HR": Archive(
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
        r"DIV2K_train_HR/\d{4}\.png",
        pictures=800,
        # size and digest as TensorFlow Datasets publishes them (url_checksums/div2k.txt)
        size=3530603713,
        sha256="9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    ),
    # No size or digest is published for this one.
    "Flickr2K_HR": Archive(
        "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
        r"Flickr2K/Flickr2K_HR/\d{6}\.png",
        pictures=2650,
    ),
}


def main() -> int:
    args = parse_args()
    try:
        for name, archive in DF2K.items():
            fetch(archive, args.folder, name, args.download)
        pictures = find_pictures([args.folder / name for name in DF2K])
        report = prepare_lmdb(pictures, args.out, CropRule(args.crop, args.step), args.codec, strict=True)
    except UserError as error:
        print(f"prepare_df2k: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_df2k: interrupted; the same command continues", file=sys.stderr)
        return 2
    print(f"{args.out}: {len(report.entries)} entries")
    return 0


def fetch(archive: Archive, folder: Path, name: str, online: bool) -> None:
    """Have the pictures of an archive in ``folder/name``."""
    if (folder / name).exists():
        return
    if online:
        download(archive, folder)
    check(archive, folder)
    extract(archive, folder, folder / name)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the archives are or shall be")
    parser.add_argument("out", type=Path, metavar="OUT.lmdb", help="target folder; its name ends with .lmdb")
    parser.add_argument("--download", action="store_true", help="fetch archives that are not there")
    parser.add_argument("--crop", type=int, default=480, help="side of the sub-images (480)")
    parser.add_argument("--step", type=int, default=240, help="distance between sub-images (240)")
    parser.add_argument("--codec", choices=CODECS, default="png", help="lossless all; see photos_to_lmdb.py")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Write the shipped weights as entries of OpenModelDB, one JSON file per student.

    python tools/openmodeldb.py build/openmodeldb --author USER --url https://host/release

The files belong into ``data/models`` of https://github.com/OpenModelDB/open-model-database. USER must be an entry of
its ``data/users.json``. The script prints the entries that its ``data/architectures.json`` also needs. Teachers are
left out, because they need the ground truth of every picture. OpenModelDB's own checks run in its repository; the test
of this script checks the same types and patterns.
"""

import argparse
import datetime
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from lightbsr import shipped
from lightbsr.commands.models import describe
from lightbsr.errors import UserError

ROOT = Path(__file__).parents[1]

ARCHITECTURES = {"IDRDCRBNet": ("kdsr", "KDSR"), "LightBSRNet": ("lightbsr", "LightBSR"), "SRMDNet": ("srmd", "SRMD")}
"""Id and name of the architecture, by the type of the restorer."""

SIZES = {"num_feat": "nf", "num_group": "ng", "num_block": "nb"}

TAGS = {
    "ClassicalDegradation": ["photo", "deblur"],
    "SecondOrderDegradation": ["photo", "restoration", "denoise", "jpeg"],
    "RankedSecondOrderDegradation": ["photo", "restoration", "denoise", "jpeg"],
    "MixedDegradation": ["photo", "restoration", "denoise", "jpeg"],
}
"""Ids of OpenModelDB's tags, by the degradation in training."""

USER_ID = re.compile(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="DIR", help="folder for the JSON files")
    parser.add_argument("--author", required=True, metavar="USER", help="id of the author in OpenModelDB")
    parser.add_argument(
        "--url", required=True, metavar="URL", help="where the weights are published: URL/NAME.safetensors"
    )
    parser.add_argument(
        "--date", type=_date, default=str(datetime.date.today()), help="date of publication, yyyy-mm-dd; default: today"
    )
    args = parser.parse_args()
    if not USER_ID.fullmatch(args.author):
        raise UserError(f"--author {args.author}: expected letters, digits and single hyphens")
    if not re.match(r"https://[^/\s]", args.url):
        raise UserError(f"--url {args.url}: expected https:// and a host")
    architectures = {}
    for name in shipped.students():
        card = describe(name)
        entry = model_entry(card, args.author, args.url, args.date)
        architectures[entry["architecture"]] = architecture_entry(card)
        write(args.out / f"{model_id(card)}.json", entry)
    print(f"{args.out}: {len(shipped.students())} models. data/architectures.json also needs:")
    print(json.dumps(architectures, indent=4))
    return 0


def model_id(card: dict[str, Any]) -> str:
    """Return the id, which OpenModelDB derives from scale and name: 4x-kdsr-s-iso for kdsr_s_x4_iso."""
    rest = [part for part in card["name"].split("_") if part != f"x{card['scale']}"]
    return "-".join([f"{card['scale']}x", *rest])


def model_entry(card: dict[str, Any], author: str, url: str, date: str) -> dict[str, Any]:
    """Return the entry of one model.

    Args:
        card: from `describe`.
        author: id of the author.
        url: the address of the folder with the weights.
        date: yyyy-mm-dd.
    """
    file = Path(card["file"])
    restorer = card["network"]["restorer"]
    licence = re.search(r"weights ([\w.-]+)", card["licence"])
    return {
        "name": card["name"],
        "author": author,
        "license": licence[1] if licence else None,
        "tags": TAGS[card["degradation"]["type"]],
        "description": description(card),
        "date": date,
        "architecture": ARCHITECTURES[restorer["type"]][0],
        "size": [f"{restorer[key]}{unit}" for key, unit in SIZES.items() if key in restorer],
        "scale": card["scale"],
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": card["bytes"],
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "urls": [f"{url.rstrip('/')}/{file.name}"],
            }
        ],
        **training(card),
        "dataset": card["data"],
        "images": [],
    }


def training(card: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the last stage of training, from the card and its recipe."""
    from lightbsr_arch.config.merge import read_options

    options = read_options(ROOT / card["recipe"]).data
    train = options["datasets"]["train"]
    return {
        "trainingIterations": list(card["iterations"].values())[-1],
        "trainingBatchSize": train["batch_size_per_gpu"],
        "trainingHRSize": options.get("degradation", {}).get("gt_size", train.get("gt_size")),
        "trainingOTF": True,  # pictures are degraded during training
    }


def description(card: dict[str, Any]) -> str:
    """Return the description in Markdown."""
    weaknesses = "\n".join(f"- {one}" for one in card["bad_at"])
    return (
        f"{card['summary']}. {card['params'] / 1e6:.2f} M parameters.\n\n"
        "The network estimates the degradation of the whole picture and restores with it. Programs that cut a picture "
        "into tiles estimate it for each tile, and seams may be visible; `lightbsr upscale` has none. Programs that "
        "use spandrel need `lightbsr_arch.spandrel_plugin`.\n\n"
        f"Known weaknesses:\n\n{weaknesses}\n\nLicences: {card['licence']}."
    )


def architecture_entry(card: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of the model's architecture."""
    name = ARCHITECTURES[card["network"]["restorer"]["type"]][1]
    return {"name": name, "input": "image", "compatiblePlatforms": ["pytorch", "onnx", "ncnn"]}


def write(path: Path, entry: dict[str, Any]) -> None:
    """Write an entry with OpenModelDB's indentation."""
    from lightbsr_arch.io import write_whole

    write_whole(path, f"{json.dumps(entry, indent=4, ensure_ascii=False)}\n".encode(), make_folder=True)


def _date(text: str) -> str:
    try:
        return str(datetime.date.fromisoformat(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected yyyy-mm-dd") from None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))

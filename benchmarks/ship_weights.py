"""Conversion of finished training runs to the shipped weights and their cards.

    python benchmarks/ship_weights.py pack options/weights/NAME*.yml...
    lightbsr bench options/weights/bench.yml -o results/weights
    python benchmarks/ship_weights.py figures results/weights/results.json

``pack`` writes lightbsr_arch/weights/NAME.safetensors, in fp16, from experiments/, and adds information from the
recipe, the logs and options/weights/cards.yml. A mixture of mix_weights.py is preferred to the last checkpoint.
``figures`` adds the results of the bench, and writes NAME.md and, at scale 4, README's table. The bench may leave out
models whose weights have not changed since their card was written. The other scales have benches of their own, such as
bench_x2.yml.
"""

import argparse
import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from machine import describe
from mix_weights import MIXED

from lightbsr import shipped
from lightbsr.errors import UserError
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.checkpoint import Checkpoint, read_checkpoint
from lightbsr_arch.config.merge import read_options
from lightbsr_arch.io import write_whole

LARGEST = 12_000_000
STAGES = ("teacher", "student", "fine-tuning", "larger-patches")
CARDS = Path("options/weights/cards.yml")
README = Path(__file__).parents[1] / "README.md"
README_SCALE = 4
README_COLUMNS = {
    "gaussian8": "blur only (Gaussian8)",
    "second-order": "blur, noise and JPEG, twice (second-order)",
}
README_PUBLISHED = ("DASR", "KDSR_S-M")
README_TABLE = re.compile(r"^\| \| parameters \|(?:.*\n)(?:\|.*\n)*", re.MULTILINE)
TIMESTAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} INFO:", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("pack")
    command.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    command.set_defaults(run=lambda args: pack(args.recipes))
    command = commands.add_parser("figures")
    command.add_argument("results", type=Path, metavar="results.json")
    command.set_defaults(run=lambda args: figures(json.loads(args.results.read_text())))
    args = parser.parse_args()
    args.run(args)


def pack(recipes: list[Path]) -> None:
    for recipe in recipes:
        _pack(recipe)


def _pack(recipe: Path) -> None:
    """Write the last checkpoint of a recipe as shipped weights.

    The files NAME_STAGE.yml that exist, of `STAGES`, are the stages of a training. A recipe with another name is a
    fine-tuning of shipped weights.
    """
    name, _, role = recipe.stem.rpartition("_")
    if role in STAGES:
        every = {stage: recipe.with_name(f"{name}_{stage}.yml") for stage in STAGES[: STAGES.index(role) + 1]}
        files = {stage: file for stage, file in every.items() if file.exists()}
    else:
        name, role, files = recipe.stem, "fine-tuning", {"fine-tuning": recipe}
    recipes = {stage: read_options(file).data for stage, file in files.items()}
    options = recipes[role]
    network = {key: value for key, value in options["network_g"].items() if key != "type"}
    models = Path("experiments", options["name"], "models")
    mixture = models / MIXED
    state = read_checkpoint(mixture if mixture.exists() else models / "net_g_latest.pth").state
    target = shipped.folder() / f"{name}{'_teacher' * (role == 'teacher')}.safetensors"
    card = {
        **_texts(target.stem),
        "scale": options["scale"],
        "params": sum(parameter.numel() for parameter in BlindSR(**network).parameters()),
        "degradation": options["degradation"],
        "recipe": recipe.as_posix(),
        "iterations": {stage: opt["train"]["total_iter"] for stage, opt in recipes.items()},
        "time": str(sum((_time_taken(opt["name"]) for opt in recipes.values()), timedelta())),
        "machine": describe("torch", "basicsr"),
    }
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    if not all(value.isfinite().all() for value in half.values()):
        raise UserError(f"{recipe}: some weights do not fit fp16")
    target.parent.mkdir(exist_ok=True)
    Checkpoint(half, network, card).save(target)
    if target.stat().st_size > LARGEST:
        target.unlink()
        raise UserError(f"{target.name}: more than {LARGEST} bytes; not shipped")
    print(f"{target}: {target.stat().st_size:,} bytes")


def _texts(name: str) -> dict[str, Any]:
    """Return the summary, data, licence and weaknesses of weights in CARDS, which has a licence for all."""
    texts = yaml.safe_load(CARDS.read_text(encoding="utf-8"))
    return {"licence": texts["licence"], **texts[name]}


def _time_taken(run: str) -> timedelta:
    """Return the time from the first to the last line of each log. A run that was continued has several logs."""
    taken = timedelta()
    for log in Path("experiments", run).glob("train_*.log"):
        times = [datetime.fromisoformat(time) for time in TIMESTAMP.findall(log.read_text(encoding="utf-8"))]
        taken += times[-1] - times[0]
    return taken


def figures(results: dict[str, Any]) -> None:
    """Write the results of a bench to the cards of the shipped weights and to the table in the README."""
    needed = {"bicubic", *(README_PUBLISHED if results["scale"] == README_SCALE else ())}
    missing = needed - {row["model"] for row in results["rows"]}
    measured = {model["name"] for model in results["models"]}
    for name in shipped.names():
        card = read_checkpoint(shipped.find_weights(name)).card
        if name not in measured and "psnr_y" not in card and card["scale"] == results["scale"]:
            missing.add(name)
    missing |= README_COLUMNS.keys() - results["degradations"].keys()
    if missing:
        raise UserError(f"the results lack {', '.join(sorted(missing))}; measure {_bench(results)} as it is")
    _add_to_cards(results)
    if results["scale"] != README_SCALE:
        return
    text, count = README_TABLE.subn(_readme_table(results), README.read_text(encoding="utf-8"))
    if count != 1:
        raise UserError(f"{README}: expected one table that begins with | | parameters |, found {count}")
    write_whole(README, text.encode())
    print(README)


def _readme_table(results: dict[str, Any]) -> str:
    """Return the table of bicubic, our students and published methods. The best of our figures are bold.

    The figures of our students are those of their cards.
    """
    default = shipped.default_name()
    cards = {name: read_checkpoint(shipped.find_weights(name)).card for name in shipped.students()}
    students = [name for name, card in cards.items() if card["scale"] == README_SCALE]
    ours = ["bicubic", *sorted(students, key=lambda name: (name != default, name))]
    parameters = {model["name"]: model["parameters"] for model in results["models"] if model["published"]}
    values: dict[tuple[str, str], list[float]] = {}
    for name in students:
        parameters[name] = cards[name]["params"]
        for degradation in README_COLUMNS:
            each = cards[name]["psnr_y"][degradation].values()
            values[name, degradation] = [figure[0] if isinstance(figure, list) else figure for figure in each]
    for row in results["rows"]:
        # A paper may lack some of the conditions.
        if row["model"] not in students and row.get("psnr_y") is not None:
            values.setdefault((row["model"], row["degradation"]), []).append(round(row["psnr_y"], 2))
    best = {
        degradation: [max(column) for column in zip(*(values[name, degradation] for name in ours))]
        for degradation in README_COLUMNS
    }
    labels = {name: f"`{name}`" for name in students} | {name: f"{name} as published" for name in README_PUBLISHED}
    labels[default] += ", the default"
    lines = [f"| | parameters | {' | '.join(README_COLUMNS.values())} |", "|---|---:|" + "---:|" * len(README_COLUMNS)]
    for name in [*ours, *README_PUBLISHED]:
        cells = []
        for degradation, leaders in best.items():
            found = zip(values.get((name, degradation), []), leaders)
            cells.append(" / ".join(f"**{x:.2f}**" if x == top and name in ours else f"{x:.2f}" for x, top in found))
        millions = f"{parameters[name] / 1e6:.2f} M" if parameters.get(name) else ""
        lines.append(f"| {labels.get(name, name)} | {millions} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def _add_to_cards(results: dict[str, Any]) -> None:
    """Write texts and, for models that were measured, PSNR-Y into the metadata, and the whole card as a text file."""
    for name in shipped.names():
        path = shipped.find_weights(name)
        checkpoint = read_checkpoint(path)
        if checkpoint.card["scale"] != results["scale"]:
            continue
        checkpoint.card |= _texts(name)
        rows = [row for row in results["rows"] if row["model"] == name]
        if rows:
            checkpoint.card["psnr_y"] = {}
        for row in rows:
            by_dataset = checkpoint.card["psnr_y"].setdefault(row["degradation"], {})
            each = [round(condition["psnr_y"], 2) for condition in row["conditions"]]
            by_dataset[row["dataset"]] = round(row["psnr_y"], 2) if row["degradation"] == "gaussian8" else each
        if rows:  # a file of weights that only gets other texts would make the repository larger
            checkpoint.save(path)
        write_whole(path.with_suffix(".md"), _card_text(name, checkpoint.card, results).encode())
        print(path.with_suffix(".md"))


def _card_text(name: str, card: dict[str, Any], results: dict[str, Any]) -> str:
    stages = card["iterations"]
    iterations = " + ".join(f"{count:,} ({stage})" for stage, count in stages.items())
    last = [*stages][-1]
    recipes = [card["recipe"].replace(f"_{last}.yml", f"_{stage}.yml") for stage in stages]
    start = "" if "teacher" in stages else f"; {recipes[0]} names the initial weights"
    lines = [
        f"# {name}",
        "",
        f"{card['summary']}; {card['params'] / 1e6:.3f} M parameters, fp16.",
        "",
        f"- Data: {card['data']}.",
        f"- Licence: {card['licence']}.",
        f"- Degradation in training: {shipped.degradation_text(card['degradation'])}.",
        f"- Training: {iterations} iterations in {card['time']} on one core, which was also used for other "
        f"work. Machine of the last stage: {card['machine']}.",
        f"- Recipes: {', '.join(recipes)}{start}.",
        "- Known weaknesses:",
        *(f"  - {weakness}" for weakness in card["bad_at"]),
        "",
        f"The tables show PSNR-Y in dB, measured by `lightbsr bench {_bench(results)}`, with bicubic and "
        "published figures of full-sized networks.",
        "",
    ]
    shown = [row for row in results["rows"] if row["model"] == "bicubic" or "published" in row]
    for degradation, conditions in results["degradations"].items():
        named = ", ".join(condition["name"] for condition in conditions)
        mean = "mean over" if degradation == "gaussian8" else "at"
        datasets = list(results["datasets"])
        lines += [
            f"{degradation} ({mean} {named}):",
            "",
            f"| | {' | '.join(datasets)} |",
            "|---|" + "---|" * len(datasets),
        ]
        own = {dataset: _figures(values) for dataset, values in card["psnr_y"][degradation].items()}
        table: dict[str, dict[str, str]] = {"bicubic": {}, name: own}
        for row in shown:
            if row["degradation"] == degradation and "psnr_y" in row:
                values = row["psnr_y"] if degradation == "gaussian8" else [c["psnr_y"] for c in row["conditions"]]
                model = f"{row['model']} (published)" if "published" in row else row["model"]
                table.setdefault(model, {})[row["dataset"]] = _figures(values)
        lines += [f"| {model} | {' | '.join(cells.get(d, '') for d in datasets)} |" for model, cells in table.items()]
        lines.append("")
    return "\n".join(lines)


def _bench(results: dict[str, Any]) -> str:
    """Return the bench of the results' scale."""
    return f"options/weights/bench{'' if results['scale'] == README_SCALE else '_x' + str(results['scale'])}.yml"


def _figures(psnr: Any) -> str:
    """Return one or several figures as text, with a dash for a condition that a paper lacks."""
    return " / ".join("–" if each is None else f"{each:.2f}" for each in (psnr if isinstance(psnr, list) else [psnr]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main()
    except (UserError, FileNotFoundError) as error:
        sys.exit(f"ship_weights: {error}")

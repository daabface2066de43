"""The options of a bench, CONFIG.yml."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from lightbsr.defaults import NamedSetting
from lightbsr.errors import UserError
from lightbsr.names import unsafe_name
from lightbsr.shipped import find_weights, read_metadata, students
from lightbsr_arch.bench.metrics import METRICS, find_metric
from lightbsr_arch.bench.models import BICUBIC, ModelSpec
from lightbsr_arch.bench.ncnn_net import NcnnNet
from lightbsr_arch.bench.pairs import GIVEN_LR, Pairs, RealPairs
from lightbsr_arch.bench.rivals import RIVALS, find_rival
from lightbsr_arch.config.checks.files import RUN_WEIGHTS
from lightbsr_arch.config.checks.type_check import Checker
from lightbsr_arch.config.load import raise_findings
from lightbsr_arch.config.registries import Resolver
from lightbsr_arch.config.yaml_file import Document, load_file
from lightbsr_arch.data.gt_source import open_pictures
from lightbsr_arch.data.pair_dataset import PicturePairs
from lightbsr_arch.degradations import Setting
from lightbsr_arch.degradations.classical import Downsample
from lightbsr_arch.option_types import CountOrZero, Degradation, Network
from lightbsr_arch.option_types.problems import Finding, Location

_GAUSSIAN8: list[NamedSetting] = ["gaussian8"]

DEMO_PHOTOS = Path(__file__).parents[2] / "examples" / "photos" / "held_out"


class NcnnSection(Struct, kw_only=True, forbid_unknown_fields=True):
    """A network in ncnn's format, from RGB to RGB in [0, 1]."""

    param: Annotated[str, Meta(description="file of its layers, .param in text format")]
    bin: Annotated[str, Meta(description="its weights")]
    scale: Annotated[Literal[2, 3, 4], Meta(description="upscaling factor")]
    input: Annotated[str | None, Meta(description="name of the LR image in .param, if it has several inputs")] = None
    output: Annotated[str | None, Meta(description="name of the SR image in .param, if it has several outputs")] = None


class ModelSection(Struct, kw_only=True, forbid_unknown_fields=True):
    """A model with options. Exactly one of weights, ncnn and spandrel is given."""

    weights: Annotated[
        str | UnsetType,
        Meta(description="bicubic, a name of shipped weights or of a rival, or a file (params_ema if it has them)"),
    ] = UNSET
    ncnn: Annotated[NcnnSection | UnsetType, Meta(description="a network in ncnn's format, run on the CPU")] = UNSET
    spandrel: Annotated[str | UnsetType, Meta(description="weights that spandrel reads, of any architecture")] = UNSET
    network: Annotated[
        Network | UnsetType,
        Meta(description="network_g of the training YAML, for a .pth that is not a BlindSR's"),
    ] = UNSET
    self_ensemble: Annotated[
        bool, Meta(description="average over the eight flips and transposes of the LR image, as the papers' + rows do")
    ] = False


class PairSection(Struct, kw_only=True, forbid_unknown_fields=True):
    """A data set with its own LR pictures, such as RealSR. Degradations do not apply to it."""

    gt: Annotated[str, Meta(description="HR pictures: a folder, or NAME.lmdb")]
    lq: Annotated[str, Meta(description="LR pictures: a folder, or NAME.lmdb")]
    filename_tmpl: Annotated[str, Meta(description="LR file name, such as `{}x4`; `{}` is the HR name")] = "{}"
    gt_tmpl: Annotated[str, Meta(description="HR file name, such as `{}_HR`; `{}` is the part both names share")] = "{}"


class BenchOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """One bench. Models, data sets and degradations are lists, or mappings with names of the user's choice."""

    scale: Annotated[Literal[2, 3, 4], Meta(description="upscaling factor")] = 4
    models: Annotated[
        list[str] | dict[str, str | ModelSection],
        Meta(
            description="bicubic, shipped weights or a rival by name, a file (.safetensors, .pth, .onnx), or a section"
        ),
    ]
    datasets: Annotated[
        list[str] | dict[str, str | PairSection],
        Meta(description="HR pictures: folders, or NAME.lmdb; or sections of HR and LR pictures"),
    ]
    degradations: Annotated[
        list[NamedSetting] | dict[str, NamedSetting | list[Setting] | Degradation],
        Meta(description="a name from the published tables, settings of your own, or a registered degradation"),
    ] = field(default_factory=lambda: _GAUSSIAN8.copy())
    downsample: Annotated[Downsample, Meta(description="s-fold takes every scale-th pixel")] = "bicubic"
    metrics: Annotated[
        list[str], Meta(min_length=1, description="psnr_y, ssim_y, niqe, lpips, dists, or a name of pyiqa's")
    ] = field(default_factory=lambda: ["psnr_y", "ssim_y", "niqe"])
    crops: Annotated[CountOrZero, Meta(description="pictures per data set and degradation in the report's viewer")] = 2
    cost: Annotated[bool, Meta(description="measure parameters, multiply-adds, latency and memory")] = True
    idr: Annotated[bool, Meta(description="measure our models' IDRs over the blurs of Gaussian8")] = False
    published: Annotated[bool, Meta(description="show published figures beside the measured ones")] = True


@dataclass(frozen=True)
class Bench:
    """A checked bench, ready to run."""

    scale: int
    models: list[ModelSpec]
    pairs: list[Pairs | RealPairs]
    metrics: list[str]
    crops: int
    cost: bool
    published: bool
    idr: bool = False


def read_config(path: str | Path) -> Bench:
    """Read CONFIG.yml, and check it and the files that it names.

    Raises:
        OptionsError: there are problems. Each has a line with file, line, key and the expected value.
    """
    return _checked(load_file(Path(path)))


def default_bench(**options: Any) -> Bench:
    """Return the bench without CONFIG.yml: shipped weights and bicubic on the demo photos, changed by ``options``.

    Raises:
        UserError: an option is invalid, or the demo photos, which are not part of the package, are missing.
    """
    scale = options.setdefault("scale", 4)
    options.setdefault("models", [BICUBIC, *(name for name in students() if _scale_of(name) == scale)])
    if "datasets" not in options:
        if not DEMO_PHOTOS.is_dir():
            raise UserError("no pictures: only the repository has the demo photos; give --images DIR or CONFIG.yml")
        options["datasets"] = {"demo photos": str(DEMO_PHOTOS)}
    return _checked(Document(options, {(): Location(0, "command line")}))


def _scale_of(name: str) -> int | None:
    scale: int | None = read_metadata(find_weights(name))["network"]["restorer"].get("scale")
    return scale


def _checked(document: Document) -> Bench:
    findings = [*Checker(Resolver(None)).check(document.data, BenchOptions)]
    if findings:
        raise_findings(findings, document)
    options = msgspec.convert(document.data, BenchOptions)
    bench = _Opened(options)
    raise_findings(bench.findings, document)
    return Bench(
        scale=options.scale,
        models=bench.models,
        pairs=bench.pairs,
        metrics=bench.metrics,
        crops=options.crops,
        cost=options.cost,
        published=options.published,
        idr=options.idr,
    )


class _Opened:
    """Opens the models and data sets that the options name, and collects problems in ``findings``."""

    def __init__(self, options: BenchOptions) -> None:
        self.findings: list[Finding] = []
        self.models = list(self._models(options))
        self.pairs = list(self._pairs(options))
        self.metrics = self._metrics(options)
        if options.idr and find_spec("sklearn") is None:
            self.findings.append(Finding(("idr",), "not-installed", "needs scikit-learn: pip install scikit-learn"))

    def _models(self, options: BenchOptions) -> Iterator[ModelSpec]:
        for key, name, model in self._named("models", options.models):
            section = model if isinstance(model, ModelSection) else ModelSection(weights=model)
            try:
                yield _model(name, section, options.scale)
            except UserError as error:
                self.findings.append(Finding(("models", key), "unusable-model", str(error)))

    def _pairs(self, options: BenchOptions) -> Iterator[Pairs | RealPairs]:
        degradations = list(self._named("degradations", options.degradations))
        if any(name == GIVEN_LR for _, name, _ in degradations):
            text = "the report calls the LR pictures of `gt` and `lq` so; choose another name"
            self.findings.append(Finding(("degradations", GIVEN_LR), "reserved-name", text))
        for key, name, root in self._named("datasets", options.datasets):
            try:
                if isinstance(root, PairSection):
                    pictures = PicturePairs(root.gt, root.lq, options.scale, root.filename_tmpl, root.gt_tmpl)
                    yield RealPairs(name, pictures)
                    continue
                open_pictures(root)
            except UserError as error:
                self.findings.append(Finding(("datasets", key), "unusable-dataset", str(error)))
                continue
            for degradation_key, degradation, how in degradations:
                try:
                    yield Pairs(name, root, degradation, how, options.scale, options.downsample)
                except (UserError, TypeError, ValueError) as error:
                    self.findings.append(Finding(("degradations", degradation_key), "unusable-degradation", str(error)))

    def _metrics(self, options: BenchOptions) -> list[str]:
        """Return names in a fixed order, without repeats."""
        for index, name in enumerate(options.metrics):
            try:
                find_metric(name)
            except UserError as error:
                self.findings.append(Finding(("metrics", index), "unknown-metric", str(error)))
        ours = [name for name in METRICS if name in options.metrics]
        return list(dict.fromkeys([*ours, *options.metrics]))

    def _named(self, section: str, entries: list[Any] | dict[str, Any]) -> Iterator[tuple[str | int, str, Any]]:
        """Yield key in the file, name and value of each entry. The entries of a list are their own names."""
        if not entries:
            self.findings.append(Finding((section,), "empty-section", "empty; name at least one"))
        if isinstance(entries, dict):
            for name, value in entries.items():
                fault = unsafe_name(name)
                if fault is not None:
                    self.findings.append(Finding((section, name), "unsafe-name", f"the name {fault}"))
                yield name, name, value
            return
        seen: set[str] = set()
        for index, value in enumerate(entries):
            run = RUN_WEIGHTS.search(value)
            name = run["run"] if run else Path(value).name.removesuffix(Path(value).suffix)
            if name in seen:
                text = f"a second {name!r}; write the section as `name: {value}`, with names that differ"
                self.findings.append(Finding((section, index), "duplicate-name", text))
            seen.add(name)
            yield index, name, value


def _model(name: str, section: ModelSection, scale: int) -> ModelSpec:
    """Return the model of a section.

    Raises:
        UserError: a file, package or key is missing, keys exclude each other, or the scale differs from the bench's.
    """
    given = [key for key in ("weights", "ncnn", "spandrel") if getattr(section, key) is not UNSET]
    if len(given) != 1:
        raise UserError(f"expected one of weights, ncnn and spandrel, found {' and '.join(given) or 'none'}")
    network = None if section.network is UNSET else section.network
    if network is not None and section.weights is UNSET:
        raise UserError(f"network needs weights and cannot be combined with {given[0]}")
    if isinstance(section.spandrel, str):
        return ModelSpec(name, _file(section.spandrel), None, section.self_ensemble, spandrel=True)
    if isinstance(section.ncnn, NcnnSection):
        net = section.ncnn
        if net.scale != scale:
            raise UserError(f"its weights are x{net.scale}, the bench is x{scale}")
        files = NcnnNet(_file(net.param), _file(net.bin), net.scale, net.input, net.output)
        return ModelSpec(name, files.bin, None, section.self_ensemble, files)
    assert isinstance(section.weights, str)
    if section.weights == BICUBIC:
        return ModelSpec(name, BICUBIC, None, section.self_ensemble)
    if section.weights in RIVALS:
        files = find_rival(section.weights, scale)
        return ModelSpec(name, files.bin, None, section.self_ensemble, files)
    return ModelSpec(name, str(find_weights(section.weights)), network, section.self_ensemble)


def _file(path: str) -> str:
    with suppress(OSError, RuntimeError):  # a name that is too long, or the home of a missing user
        found = Path(path).expanduser()
        if found.is_file():
            return str(found)
    raise UserError(f"{path}: no such file")

"""Types that sections of options share. Registered classes use them to describe their own sections.

They are not in ``config``, because ``config`` imports the registered classes.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Network = Annotated[dict[str, Any], Meta(extra={"kind": "network"}, extra_json_schema={"$ref": "#/$defs/network"})]
Dataset = Annotated[dict[str, Any], Meta(extra={"kind": "dataset"}, extra_json_schema={"$ref": "#/$defs/dataset"})]
Degradation = Annotated[
    dict[str, Any], Meta(extra={"kind": "degradation"}, extra_json_schema={"$ref": "#/$defs/degradation"})
]
Loss = Annotated[dict[str, Any], Meta(extra={"kind": "loss"}, extra_json_schema={"$ref": "#/$defs/loss"})]
Metric = Annotated[dict[str, Any], Meta(extra={"kind": "metric"}, extra_json_schema={"$ref": "#/$defs/metric"})]
Optimizer = Annotated[
    dict[str, Any], Meta(extra={"kind": "optimizer"}, extra_json_schema={"$ref": "#/$defs/optimizer"})
]
Scheduler = Annotated[
    dict[str, Any], Meta(extra={"kind": "scheduler"}, extra_json_schema={"$ref": "#/$defs/scheduler"})
]

Count = Annotated[int, Meta(ge=1)]
Pieces = Annotated[int, Meta(ge=1, le=65536)]  # number of items that are in memory together
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1025)]  # each process adds its rank, and NumPy accepts 32 bits
Processes = Annotated[int, Meta(ge=0, le=1024)]
CountOrZero = Annotated[int, Meta(ge=0)]
Steps = Annotated[float, Meta(ge=1, multiple_of=1)]  # BasicSR's files write `!!float 5e3`
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Range = tuple[float, float]
PerChannel = Annotated[list[float], Meta(min_length=1)]


class IoBackend(Struct, kw_only=True, forbid_unknown_fields=True):
    """Storage of a data set's images."""

    type: Annotated[
        Literal["disk", "lmdb", "memcached"],
        Meta(description="disk: a folder of image files; lmdb: a folder NAME.lmdb that BasicSR's LMDB maker wrote"),
    ]
    readonly: Annotated[bool, Meta(description="lmdb: open the database read-only")] = True
    lock: Annotated[bool, Meta(description="lmdb: use a lock, which is not needed for read-only access")] = False
    readahead: Annotated[bool, Meta(description="lmdb: allow the system to read ahead")] = False
    server_list_cfg: Annotated[str | UnsetType, Meta(description="memcached: server list file")] = UNSET
    client_cfg: Annotated[str | UnsetType, Meta(description="memcached: client configuration file")] = UNSET
    sys_path: Annotated[str | None, Meta(description="memcached: folder of its Python client")] = None


class LoaderOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys that BasicSR's data loader reads from every data set's section."""

    name: Annotated[str, Meta(min_length=1, description="name in logs, TensorBoard and result folders")]
    type: Annotated[str, Meta(description="registered data set class")]
    batch_size_per_gpu: Annotated[Pieces | UnsetType, Meta(description="images per step and GPU (training)")] = UNSET
    num_worker_per_gpu: Annotated[
        Processes | UnsetType, Meta(description="loader processes per GPU (training); 0: load in the main process")
    ] = UNSET
    dataset_enlarge_ratio: Annotated[Count, Meta(description="repetitions of the data set per epoch (training)")] = 1
    prefetch_mode: Annotated[
        Literal["cpu", "cuda"] | None, Meta(description="prepare batches in advance; cuda needs `pin_memory: true`")
    ] = None
    num_prefetch_queue: Annotated[Pieces, Meta(description="batches that `prefetch_mode: cpu` prepares in advance")] = 1
    pin_memory: Annotated[bool, Meta(description="page-locked memory, for faster copies to the GPU")] = False
    persistent_workers: Annotated[bool, Meta(description="keep loader processes between epochs")] = False


class DatasetOptions(LoaderOptions, kw_only=True):
    """Keys of every data set of high-resolution images.

    A registered class describes its own section with an attribute ``Options``. It is a subclass of this struct
    (``kw_only=True``) that adds the keys of the class. ``phase`` and ``scale`` are not options, because BasicSR itself
    writes them into the section.
    """

    dataroot_gt: Annotated[str, Meta(description="high-resolution images: a folder, or NAME.lmdb")]
    io_backend: Annotated[IoBackend, Meta(description="how the images are read")]

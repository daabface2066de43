"""Results of a bench."""

from dataclasses import dataclass, field

from lightbsr_arch.bench.cost import Cost

Place = tuple[str, str, str, int]
"""Data set, degradation, condition, index of the image."""


@dataclass
class Results:
    """The results of a bench.

    Attributes:
        values: metrics by model and place.
        failures: reasons for missing metrics, by model and place. The model is None if the picture cannot be read.
        broken: reasons by model for models that could not be loaded.
        costs: cost by model, or the reason why there is none.
        idrs: figures of ``measure_idr`` by model, for the models of this package.
        crops: pictures of the viewer by place and label ("LR", "HR" or a model's name), as WebP.
        notes: lines about metrics that could not be computed, with the reason.
        computed: number of SR pictures that were made in this run.
    """

    values: dict[tuple[str, Place], dict[str, float]] = field(default_factory=dict)
    failures: dict[tuple[str | None, Place], str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    costs: dict[str, Cost | str] = field(default_factory=dict)
    idrs: dict[str, dict[str, float | str]] = field(default_factory=dict)
    crops: dict[Place, dict[str, bytes]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    computed: int = 0

    @property
    def complete(self) -> bool:
        return not (self.failures or self.broken or any(isinstance(cost, str) for cost in self.costs.values()))

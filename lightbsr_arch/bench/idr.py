"""Measures of the IDRs of this package's models: separation of blurs, and the cost of a wrong IDR."""

from lightbsr.errors import UserError
from lightbsr_arch.analysis.idr import factor, measure_use, read_idrs
from lightbsr_arch.analysis.measures import neighbour_accuracy, regression_r2
from lightbsr_arch.archs import BlindSR
from lightbsr_arch.bench.models import ModelSpec
from lightbsr_arch.bench.pairs import Pairs
from lightbsr_arch.checkpoint import load

CROP = 128
"""Side of the crops in HR pixels."""

CROPS = 8
"""Largest number of crops per image."""

IDRFigures = dict[str, float | str]


def measure_idr(spec: ModelSpec, pairs: Pairs) -> IDRFigures:
    """Compute the IDR of crops blurred with the widths of Gaussian8, and restore them with it and with a wrong one.

    Args:
        spec: specification of a BlindSR.
        pairs: pairs whose HR images are cropped; at least three.

    Returns:
        ``psnr_y`` of the crops in dB; ``knn``, the share of IDRs whose width is that of most of the five nearest IDRs
        of other images; ``r2`` of a linear regression of the width; ``wrong_costs``, the loss of PSNR-Y in dB with the
        IDR of the width half of the range away; ``chance``, the share of a random guess; ``dataset``.

    Raises:
        UserError: fewer than three images are large enough, the input of a teacher is not available, or the network has
            no estimator.
    """
    model = load(spec.weights)
    if not isinstance(model, BlindSR):
        raise UserError(f"{spec.name}: a {type(model).__name__} has no estimator that reads an IDR; leave idr out")
    widths = factor("sigma", pairs.scale)
    readings = read_idrs({spec.name: model}, [widths], pairs.source, CROP - CROP % pairs.scale, CROPS)
    vectors = readings.vectors[spec.name][widths.name]
    use = measure_use(model, widths, readings.crops, vectors)
    return {
        "dataset": pairs.dataset,
        "psnr_y": use.psnr,
        "knn": neighbour_accuracy(vectors, readings.images),
        "chance": 1 / len(widths.levels),
        "r2": regression_r2(vectors, readings.images, widths.levels),
        "wrong_costs": use.wrong_costs,
    }

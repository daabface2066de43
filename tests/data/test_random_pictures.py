"""Random pictures that other libraries write are read back value for value."""

import io

import cv2
import numpy as np
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.data.test_reader_matrix import fault

SIDES = st.integers(1, 40)


@st.composite
def pictures(draw: st.DrawFn, channels: tuple[int, ...]) -> np.ndarray:
    """Draw H x W x C of 8 or 16 bits: grey or RGB, with alpha last where C is even."""
    shape = (draw(SIDES), draw(SIDES), draw(st.sampled_from(channels)))
    return draw(arrays(draw(st.sampled_from((np.uint8, np.uint16))), shape))


def by_opencv(picture: np.ndarray, suffix: str) -> bytes:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[picture.shape[2]]
    return cv2.imencode(suffix, np.ascontiguousarray(picture[..., order]))[1].tobytes()


@given(pictures((1, 3, 4)))
def test_png(picture: np.ndarray) -> None:
    assert fault(by_opencv(picture, ".png"), picture) is None


@given(pictures((1, 3)))
def test_pnm(picture: np.ndarray) -> None:
    assert fault(by_opencv(picture, ".pgm" if picture.shape[2] == 1 else ".ppm"), picture) is None


@given(
    picture=pictures((1, 2, 3, 4)),
    layout=st.one_of(
        st.builds(lambda rows: {"rowsperstrip": rows}, SIDES),
        st.builds(lambda height, width: {"tile": (16 * height, 16 * width)}, st.integers(1, 3), st.integers(1, 3)),
    ),
    compression=st.sampled_from((None, "lzw", "zlib", "packbits", "zstd")),
    byteorder=st.sampled_from("<>"),
    bigtiff=st.booleans(),
)
def test_tiff(
    picture: np.ndarray, layout: dict[str, object], compression: str | None, byteorder: str, bigtiff: bool
) -> None:
    channels = picture.shape[2]
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        picture if channels > 1 else picture[..., 0],
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=None if channels % 2 else ["unassalpha"],
        compression=compression,
        predictor=compression in ("lzw", "zlib"),
        byteorder=byteorder,
        bigtiff=bigtiff,
        metadata=None,
        **layout,
    )
    assert fault(file.getvalue(), picture) is None

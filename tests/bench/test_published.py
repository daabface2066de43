"""Published figures are copied correctly, and shown only with measurements of the same conditions."""

import itertools

import pytest

from lightbsr_arch.bench.config import Bench
from lightbsr_arch.bench.pairs import GIVEN_LR, Pairs
from lightbsr_arch.bench.published import _published, missing_figures, published_rows
from lightbsr_arch.degradations.settings import named_settings
from tests.bench.toys import pictures

TABLES = _published()["tables"]


def named(table):
    return [GIVEN_LR] if table["degradation"] == GIVEN_LR else [
        setting.name for setting in named_settings(table["degradation"], table["scale"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "table", TABLES, ids=lambda table: f"{table['source']} {table['degradation']} x{table['scale']}"
)
def test_every_table_has_a_source_and_figures_for_conditions_of_its_setting(table):
    assert table["source"]
    assert table["conditions"] == [name for name in named(table) if name in table["conditions"]]
    assert set(table.get("s_fold", ())) <= set(table["figures"])
    for method, datasets in table["figures"].items():
        assert datasets, method
        for dataset, figures in datasets.items():
            assert set(figures) <= {"psnr_y", "ssim_y", "lpips-vgg"}
            for metric, values in figures.items():
                low, high = (18, 40) if metric == "psnr_y" else (0.25, 1)
                if isinstance(values, list):
                    assert len(values) == len(table["conditions"]), (method, dataset)
                else:
                    assert table["conditions"] == named(table), (method, dataset)
                    values = [values]
                assert all(low < value < high for value in values), (method, dataset)


def test_no_figure_of_a_method_comes_from_two_tables():
    places = [
        (table["degradation"], table["scale"], method, dataset, metric)
        for table in TABLES
        for method, datasets in table["figures"].items()
        for dataset, figures in datasets.items()
        for metric in figures
    ]
    assert len(places) == len(set(places))
    covered = {place[:2] for place in places}
    settings = set(itertools.product(("gaussian8", "setting1"), (2, 3, 4)))
    assert covered == settings | {("setting2", 4), (GIVEN_LR, 2), (GIVEN_LR, 4)}


@pytest.fixture
def rows(tmp_path):
    def rows(dataset, degradation, scale=4, downsample="bicubic", name=None):
        """Return published rows by method for a data set of this name."""
        root = tmp_path / "hr"
        if not root.is_dir():
            pictures(root, 1)
        pairs = Pairs(dataset, str(root), name or str(degradation), degradation, scale, downsample)
        bench = Bench(scale=scale, models=[], pairs=[pairs], metrics=["psnr_y"], crops=0, cost=False, published=True)
        return {row["model"]: row for row in published_rows(bench)}, missing_figures(bench)

    return rows


def psnr(row):
    return [condition.get("psnr_y") for condition in row["conditions"]]


def ssim(row):
    return [condition.get("ssim_y") for condition in row["conditions"]]


def test_figures_are_those_of_the_papers(rows):
    setting2, _ = rows("Set14", "setting2")
    assert psnr(setting2["DASR"])[:9] == [27.99, 27.97, 27.53, 27.45, 27.43, 27.22, 27.19, 26.83, 26.21]
    assert psnr(setting2["KDSR"])[9:18] == [27.56, 27.55, 26.67, 26.49, 26.44, 26.35, 26.19, 25.78, 25.25]
    assert psnr(setting2["CDFormer"])[18:] == [27.00, 26.92, 25.98, 25.80, 25.80, 25.70, 25.55, 25.22, 24.83]
    assert setting2["DASR"]["psnr_y"] == pytest.approx(710.56 / 27)
    assert setting2["DASR"]["published"] == "DASR, CVPR 2021, table 3"

    b100, _ = rows("B100", "setting2")
    assert psnr(b100["CdCL-S"])[:9] == [None] * 9
    assert psnr(b100["CdCL-S"])[9:12] == [26.79, 26.74, 26.04]
    assert psnr(b100["MRDA"])[-1] == 24.36
    assert b100["CdCL-S"]["psnr_y"] is None  # the paper states the mean over other conditions

    setting1, _ = rows("Urban100", "setting1")
    assert psnr(setting1["DASR"]) == [25.82, 25.69, 25.44, 24.66]
    assert psnr(setting1["MRDA"]) == [None, 26.26, 26.02, 25.08]
    assert ssim(setting1["MRDA"]) == [None, 0.7889, 0.7783, 0.7380]
    assert setting1["MRDA"]["published"] == "CdCL, TIP 2025, table I"
    assert ssim(setting1["DASR"]) == [None, 0.7700, 0.7581, 0.7222]
    assert setting1["DASR"]["published"] == "DASR, CVPR 2021, table 2; SSIM-Y: CdCL, TIP 2025, table I"
    assert "ssim_y" not in setting1["IKC"]["conditions"][1]  # PSNR-Y of IKC differs between the two papers
    assert psnr(rows("Set5", "setting1", 3)[0]["CDFormer"]) == [34.79, 34.85, 34.61, 33.73]
    assert psnr(rows("BSD100", "setting1", 2)[0]["DCLS"]) == [32.23, 32.25, 32.12, 30.93]

    assert rows("Set5", "gaussian8", 4)[0]["KDSR_S-M"]["psnr_y"] == 32.02
    assert rows("Manga109", "gaussian8", 2)[0]["DANv2"]["ssim_y"] == 0.9734
    assert rows("Set14", "gaussian8", 3)[0]["IKC"]["psnr_y"] == 29.38
    gaussian8, _ = rows("Set14", "gaussian8", 4)
    assert {method: gaussian8[method]["published"] for method in ("DANv1", "DANv2", "MRDA_S")} == {
        "DANv1": "DAN's README, Gaussian8",
        "DANv2": "KDSR, ICLR 2023, table 1",
        "MRDA_S": "MRDA's README, Gaussian8",
    }


def test_figures_do_not_stand_beside_other_conditions(rows):
    assert rows("Set14", "setting1", downsample="s-fold") == ({}, [])
    assert rows("Set14", [{"sigma": 1.8}], name="gaussian8") == ({}, [])  # the paper prints the mean over eight
    one, _ = rows("Set14", [{"sigma": 1.2}], name="mine")
    assert one["CdCL-L"]["psnr_y"] == 28.84
    noise5 = [{"sigma": [2.0, 0.5], "noise": 5}, {"sigma": [4.0, 4.0], "theta": 180, "noise": 5}]
    assert rows("BSD100", noise5, name="noise 5")[0]["KDSR"]["psnr_y"] == pytest.approx((26.73 + 24.94) / 2)
    assert rows("Set14", "setting2", scale=2) == ({}, [])


def test_doubtful_rows_have_a_footnote_and_missing_methods_are_named(rows):
    found, missing = rows("Set5", "gaussian8")
    assert {method for method, row in found.items() if "footnote" in row} == {
        "IKC", "DANv1", "DANv2", "DCLS", "AdaTarget",
    }  # fmt: skip
    assert missing == [
        "No published figures for gaussian8, x4, Set5: CdCL, CDFormer, LightBSR (their tables could not be read)"
    ]
    assert "MRDA_S" in found

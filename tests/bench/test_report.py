"""The report in a browser, without a network."""

import json
import shutil

import pytest
import yaml

from lightbsr.commands import main
from tests.bench.toys import pictures, student

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return a report on two data sets with a broken model, and a model's name that contains markup."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "broken.pth").write_bytes(b"")
    config = {
        "models": {
            "bicubic": "bicubic",
            "<!--<script><b>ours": str(student(folder / "student.safetensors")),
            "broken": str(folder / "broken.pth"),
        },
        "datasets": {
            "Set5": str(pictures(folder / "one", 1, side=128)),
            "mine": str(pictures(folder / "two", 2, side=64)),
        },
        "degradations": ["gaussian8", "setting1"],
        "metrics": ["psnr_y"],
        "cost": False,
    }
    (folder / "bench.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["bench", str(folder / "bench.yml"), "-o", str(folder)]) == 1
    return folder / "report.html"


@pytest.fixture
def page(report):
    api = pytest.importorskip("playwright.sync_api", reason="a browser test: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("a browser test: no Chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        opened = context.new_page()
        complaints = []
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.goto(report.as_uri())
        yield opened
        assert complaints == []
        browser.close()


def names(page):
    return page.eval_on_selector_all("#table tbody tr > th", "cells => cells.map(cell => cell.firstChild.textContent)")


def test_it_fetches_nothing(report):
    text = report.read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert len(text) < 2_000_000


def test_sorting(page, report):
    rows = json.loads((report.parent / "results.json").read_text())["rows"]
    figures = {
        row["model"]: row["psnr_y"]
        for row in rows
        if (row["dataset"], row["degradation"]) == ("Set5", "gaussian8") and row.get("psnr_y") is not None
    }
    column = page.locator("#table thead tr:nth-child(2) th", has_text="PSNR-Y").first
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert names(page) == [*sorted(figures, key=figures.get, reverse=True), "broken"]
    column.get_by_role("button").press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    assert names(page) == [*sorted(figures, key=figures.get), "broken"]
    page.get_by_role("button", name="Model").click()
    assert names(page)[:3] == ["<!--<script><b>ours", "AdaTarget", "bicubic"]
    assert page.locator("tr.published").count() == 10
    assert "failed: " in page.locator("#table").inner_text()


def test_plots_and_choices(page):
    assert page.locator("#sigma polyline").count() == 2
    assert page.locator("#sigma circle").count() == 16
    page.get_by_label("Degradation").select_option("setting1")
    assert page.locator("#sigma polyline").count() == 15  # the tables of the papers have each sigma
    page.get_by_label("Data set of plots and crops").select_option("mine")
    assert page.locator("#sigma polyline").count() == 2
    assert page.locator("#picture option").all_inner_texts() == ["00.png, sigma2.4", "01.png, sigma2.4"]


def test_one_condition_can_be_chosen(page):
    def figure(model):
        line = page.locator("#table tbody tr", has=page.locator("th", has_text=model)).first
        return line.locator("td").nth(4).inner_text()

    page.get_by_label("Degradation").select_option("setting1")
    choices = page.get_by_label("Conditions")
    assert choices.locator("option").all_inner_texts() == ["all (4)", "sigma0", "sigma1.2", "sigma2.4", "sigma3.6"]
    assert [figure("DASR"), figure("MRDA")] == ["31.56", "–"]  # MRDA's row lacks sigma 0
    choices.select_option(label="sigma2.4")
    assert [figure("DASR"), figure("MRDA")] == ["31.75", "32.11"]
    assert "setting1, ×4, sigma2.4" in page.locator("#table caption").inner_text()
    page.get_by_label("Degradation").select_option("gaussian8")
    assert choices.input_value() == "0"


def test_viewer(page):
    images = page.locator("#viewer img")
    assert images.evaluate_all("all => all.map(image => image.alt)") == [
        "00.png, LR", "00.png, bicubic", "00.png, <!--<script><b>ours", "00.png, HR",
    ]  # fmt: skip
    assert images.evaluate_all("all => all.map(image => image.naturalWidth)") == [32, 128, 128, 128]
    widths = images.evaluate_all("all => all.map(image => image.clientWidth)")
    assert len(set(widths)) == 1
    assert widths[0] >= 190
    assert page.locator("#viewer .none").inner_text() == "failed"

    bicubic, hr = images.nth(1), images.nth(3).get_attribute("src")
    before = bicubic.get_attribute("src")
    bicubic.hover()
    page.mouse.down()
    assert bicubic.get_attribute("src") == hr
    page.mouse.up()
    assert bicubic.get_attribute("src") == before != hr
    page.get_by_label("Zoom").select_option("4")
    assert images.nth(1).evaluate("image => image.clientWidth") == 512

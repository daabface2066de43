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
    assert page.locator("#latency").is_hidden()  # no cost was measured
    assert page.locator("#picture option").all_inner_texts() == ["00.png, sigma2.4", "01.png, sigma2.4"]


def test_one_condition_can_be_chosen(page):
    def figure(model):
        line = page.locator("#table tbody tr", has=page.locator("th", has_text=model)).first
        return line.locator("td").nth(1).inner_text()  # after the parameters, the only known cost

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


def test_the_arrow_keys_move_in_the_viewer(page):
    def focused():
        return page.evaluate("document.activeElement.firstChild.alt")

    page.get_by_label("Data set of plots and crops").select_option("mine")
    page.locator("#viewer button").first.focus()
    page.keyboard.press("ArrowRight")
    assert focused() == "00.png, bicubic"
    page.keyboard.press("ArrowDown")
    assert focused() == "01.png, bicubic"
    page.keyboard.press("ArrowDown")  # it is the last picture
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert focused() == "01.png, LR"
    shown = page.locator("#viewer img").first
    before, hr = shown.get_attribute("src"), page.locator("#viewer img").last.get_attribute("src")
    page.keyboard.down(" ")
    assert shown.get_attribute("src") == hr != before
    page.keyboard.up(" ")
    assert shown.get_attribute("src") == before


def test_the_filter_applies_to_table_plots_and_crops(page):
    page.get_by_label("Filter").fill("BICUB, kdsr")
    assert names(page) == ["bicubic", "RCAN (for bicubic)", "KDSR_S-M", "KDSR_S-L"]
    assert page.locator("#sigma polyline").count() == 1
    assert page.locator("#viewer figcaption b").all_inner_texts() == ["LR", "bicubic", "HR"]
    page.get_by_label("Filter").fill("nothing")
    assert names(page) == ["No name contains nothing."]


def test_a_link_leads_to_a_row_with_the_same_choices(page, report):
    page.get_by_label("Degradation").select_option("setting1")
    page.get_by_label("Conditions").select_option(label="sigma2.4")
    page.get_by_role("link", name="MRDA", exact=True).click()
    address = page.url
    other = page.context.new_page()
    other.goto(address)
    linked = other.locator("tr.linked")
    assert linked.get_by_role("link").inner_text() == "MRDA"
    assert linked.locator("td").nth(1).inner_text() == "32.11"
    assert other.evaluate("document.activeElement.textContent") == "MRDA"
    stale = page.context.new_page()
    stale.goto(f"{report.as_uri()}#row=unknown&degradation=unknown&conditions=unknown&dataset=unknown")
    assert stale.locator("tr.linked").count() == 0
    assert stale.get_by_label("Degradation").input_value() == "gaussian8"


def test_the_heading_stays_in_view_in_a_long_table(page):
    page.set_viewport_size({"width": 1400, "height": 420})
    scroll = page.locator(".scroll").first
    scroll.evaluate("box => { box.scrollTop = 150; }")
    tops = page.evaluate(
        "() => ['.scroll', '#table thead'].map(name => document.querySelector(name).getBoundingClientRect().top)"
    )
    assert tops[0] == pytest.approx(tops[1], abs=1)

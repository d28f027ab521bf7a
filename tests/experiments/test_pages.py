"""Interactive reports in a real browser."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from experiments import time_constants
from experiments.time_constants import PRESETS


@pytest.mark.slow
def test_report_slider_changes_curves(tmp_path: Path) -> None:
    """Needs selenium, plotly, and Debian's chromium and chromium-driver."""
    webdriver = pytest.importorskip("selenium.webdriver")
    pytest.importorskip("plotly")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("chromium or chromedriver is not installed")
    time_constants.run(dataclasses.replace(PRESETS["smoke"], out=tmp_path / "sweep"))
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.get((tmp_path / "sweep" / "report.html").as_uri())

        def curves() -> list[str]:
            found = browser.find_elements("css selector", "#explore-0 .scatterlayer path.js-line")
            return [line.get_attribute("d") for line in found]

        before = curves()
        assert len(before) == 4, "two panels must show a curve for each of two time constants"
        rail = browser.find_element("css selector", "#explore-0 .slider-rail-touch-rect")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", rail)
        right = int(rail.size["width"] / 2) - 2
        webdriver.ActionChains(browser).move_to_element_with_offset(rail, right, 0).click().perform()
        wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait(browser, 20)
        wait.until(lambda _: len(curves()) == 4 and curves() != before)
        assert "20" in browser.find_element("css selector", "#explore-0 .slider-label").text
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []

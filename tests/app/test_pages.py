"""The pages, as a person's browser shows them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Process

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is absent")
wait = pytest.importorskip("selenium.webdriver.support.wait")

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (DRIVER and BROWSER):
        pytest.skip("chromium or chromedriver is absent (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1100, 800)
    driver.implicitly_wait(20)
    try:
        yield driver
    finally:
        driver.quit()


def find(browser: Any, css: str) -> Any:
    return browser.find_element("css selector", css)


def test_a_person_fills_the_form_and_reads_the_prediction(browser: Any, server: Process) -> None:
    browser.get(f"{server.url}/")
    find(browser, "input[name=proline]")
    served = server.client.get("/model").json()
    row = server.client.get("/openapi.json").json()["components"]["schemas"]["PredictRequest"]["examples"][0]
    values = row["features"][0]
    for feature, value in zip(served["features"], values, strict=True):
        field = find(browser, f"input[name='{feature['name']}']")
        field.clear()
        field.send_keys(str(value))
        assert f"{feature['min']:g}"[:4] in field.find_element("xpath", "..").text
    assert "outside" in find(browser, "input[name=proline]").get_attribute("class")
    find(browser, "button[type=submit]").click()
    bars = [find(browser, f".bar:nth-child({n})").text for n in (1, 2, 3)]
    assert find(browser, "#answer").text == "class_1"
    assert [bar.split() for bar in bars] == [
        ["class_0", "0.0", "%"],
        ["class_1", "100.0", "%"],
        ["class_2", "0.0", "%"],
    ]
    assert "ms" in find(browser, "#latency").text and "pod-a" in find(browser, "#latency").text
    assert loud(browser) == []


def test_the_docs_are_drawn_from_the_image_alone(browser: Any, server: Process) -> None:
    browser.get(f"{server.url}/docs")
    operations = {element.text for element in browser.find_elements("css selector", "summary code")}
    assert operations == set(server.client.get("/openapi.json").json()["paths"])
    predict = next(e for e in browser.find_elements("css selector", "details") if "/predict" in e.text)
    predict.click()
    predict.find_element("css selector", "button").click()
    output = predict.find_element("css selector", "button + pre")
    wait.WebDriverWait(browser, 20).until(lambda _: "class_1" in output.text)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded and all(name.startswith((server.url, "data:")) for name in loaded)
    assert loud(browser) == []


def loud(browser: Any) -> list[str]:
    """What the browser complains of."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

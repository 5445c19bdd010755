"""The report in a real browser: the viewer draws, its slider moves it, and nothing fails on the way."""

import runpy
import subprocess
from pathlib import Path

from mrtai.io.manifest import case_manifest
from mrtai.io.report_figures import report_figures
from mrtai.io.report_html import html_report
from mrtai.io.results import results

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",
)

PROBE = """<script>
window.addEventListener("error", function (event) { document.body.dataset.fault = event.message; });
window.addEventListener("load", function () { setTimeout(function () {
  const drawn = function () {
    const canvas = document.getElementById("axial");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.reduce(function (sum, value) { return sum + value; }, 0);
  };
  const before = drawn(), slider = document.getElementById("axial-slice");
  slider.value = 2;
  slider.dispatchEvent(new Event("input"));
  document.body.dataset.text = document.getElementById("axial-text").textContent;
  document.body.dataset.moved = String(drawn() !== before);
}, 2000); });
</script></body>"""


def test_the_viewer_draws_and_follows_its_slider(program, tmp_path):
    chromium = program("chromium", "chromium")
    report = sample_report()
    page = html_report(report, results(report), report_figures(report), manifest=case_manifest(report, {}))
    file = tmp_path / "report.html"
    file.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "data-fault" not in dom
    assert 'data-text="slice 3 of' in dom
    assert 'data-moved="true"' in dom

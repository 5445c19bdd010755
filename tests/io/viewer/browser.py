"""NiiVue in a real Chromium: CT slices and a dose object go in as DICOM, the picture it draws comes back."""

import base64
import json
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

PAGE = Path(__file__).parent
FLAGS = ("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,500")  # fmt: skip


@dataclass(frozen=True)
class Seen:
    png: bytes
    highest: float


def installed(npm):
    """Packages as package.json pins them, in a folder of this test run."""
    folder = Path(tempfile.mkdtemp(prefix="viewer-"))
    for name in ("index.html", "package.json"):
        shutil.copy(PAGE / name, folder / name)
    words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


def seen_in_browser(ct_files, dose_file, crosshair_ras_mm, *, chromium, npm="npm", folder=None, axial_only=False):
    """Return the picture; raise with the page's own words when it failed."""
    folder = folder or installed(npm)
    asked = {"ct": [], "dose": [], "crosshair_ras_mm": list(crosshair_ras_mm), "axial_only": axial_only}
    for kind, files in (("ct", ct_files), ("dose", [dose_file])):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir()
        for file in files:
            shutil.copy(file, folder / kind / file.name)
            asked[kind].append(f"{kind}/{file.name}")
    (folder / "asked.json").write_text(json.dumps(asked))
    answers = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def do_POST(self):
            answers.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = [chromium, *FLAGS, f"--user-data-dir={folder / 'browser'}", "--remote-debugging-port=0"]
    browser = subprocess.Popen(
        [*words, f"http://127.0.0.1:{server.server_port}/index.html"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        path, body = answers.get(timeout=120)
    except Empty:
        raise RuntimeError("the viewer gave no answer within 120 s") from None
    finally:
        browser.kill()
        browser.wait()
        server.shutdown()
        server.server_close()
    if path == "/fault":
        raise RuntimeError(body.decode())
    found = json.loads(body)
    return Seen(base64.b64decode(found["picture"].partition(",")[2]), found["highest"])

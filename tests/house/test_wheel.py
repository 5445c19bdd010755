"""What an installed package has of the models."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.engines.tiny_model import write_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
FIND = """
import json
from mrtai.io.bundles import load_bundle, shipped_models
print(json.dumps([load_bundle("tiny").label, str(shipped_models())]))
"""


def test_a_wheel_brings_the_models_and_finds_them(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, source)
    # kernels and report templates are megabytes that say nothing here
    shutil.copytree(REPOSITORY / "mrtai", source / "mrtai", ignore=shutil.ignore_patterns("kernels", "__pycache__", "templates"))
    write_bundle(source / "models" / "tiny")
    build = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "MRTAI_MODELS": str(tmp_path / "none")}
    found = subprocess.run([sys.executable, "-P", "-c", FIND], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(found.stdout) == ["tiny@1.2.3", str(tmp_path / "installed" / "mrtai" / "models")]

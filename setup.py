"""Puts the shipped models into a wheel: `models/` of a checkout becomes `mrtai/models/` of an installed package.

All else stands in pyproject.toml. An editable install reads the models where they lie.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODELS = Path(__file__).resolve().parent / "models"


class WithModels(build_py):
    """Also copies the bundles."""

    def run(self) -> None:
        """Build as usual, then add `mrtai/models`."""
        super().run()
        if not self.editable_mode and MODELS.is_dir():
            shutil.copytree(MODELS, Path(self.build_lib) / "mrtai" / "models", dirs_exist_ok=True)


setup(cmdclass={"build_py": WithModels})

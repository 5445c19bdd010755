"""What `deploy/` and the documents tell a department to run exists and is well-formed."""

import configparser
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from workflows.install import DEPLOYMENT, POOL

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
PYTHON = "/opt/mrtai/.venv/bin/python"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MADE_BY_THE_READER = {"deploy/site"}
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs" / "how-to").glob("*.md"))]


@cache
def help_of(*words):
    """Return what ``python -m WORDS --help`` prints; it must exit with 0."""
    done = subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def require_known(words):
    """Check a command of ours: module, subcommand and every flag."""
    named = [word for word in words if not word.startswith("-")]
    depth = {"prefect": 3, "workflows": 2, "mrtai.cli": 2}[named[0]]
    told = help_of(*named[:depth])
    for flag in (word for word in words if word.startswith("--") and word != "--help"):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", told), f"{' '.join(named[:depth])} knows no {flag}"


def unit(path):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(path.read_text("utf-8"))
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_as_a_user_without_rights(path):
    service = unit(path)["Service"]
    python, minus_m, *words = shlex.split(service["ExecStart"])
    assert (python, minus_m) == (PYTHON, "-m")
    require_known(words)
    assert (service["Restart"], service["KillMode"], service["User"]) == ("always", "mixed", "mrtai")
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("true", "strict", "")
    assert int(service["TimeoutStopSec"]) >= 60
    assert service["UMask"][-1] == "7"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_finds_no_fault_in_the_units(tmp_path):
    for path in UNITS:
        # on this machine nothing is installed there
        text = (
            path.read_text("utf-8")
            .replace(PYTHON, sys.executable)
            .replace("User=mrtai", "User=daemon")
            .replace("Group=mrtai", "Group=daemon")
        )
        (tmp_path / path.name).write_text(text)
    for path in UNITS:
        name = path.name.replace("@.", "@1.")
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "mrtai" in line]
        assert (done.returncode, ours) == (0, []), done.stderr


def test_serve_has_time_to_stop_all_its_parts():
    from workflows.serve import STOP_S

    assert int(unit(DEPLOY / "mrtai.service")["Service"]["TimeoutStopSec"]) > 4 * STOP_S


def test_prefect_yaml_deploys_the_flows_that_a_worker_installs():
    told = yaml.safe_load((DEPLOY / "prefect.yaml").read_text("utf-8"))
    found = set()
    for one in told["deployments"]:
        module, _, name = one["entrypoint"].rpartition(".")
        found.add((getattr(importlib.import_module(module), name).name, one["name"], one["work_pool"]["name"]))
    assert found == {("dose-cycle", DEPLOYMENT, POOL), ("recompute", DEPLOYMENT, POOL)}


def test_compose_starts_commands_that_exist_on_volumes_that_exist():
    assert set(COMPOSE["services"]) == {"postgres", "prefect", "department", "worker"}
    for name, service in COMPOSE["services"].items():
        assert set(service.get("depends_on", [])) <= set(COMPOSE["services"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source == "./site" or (DEPLOY / source).is_file(), volume
        if "command" in service:
            require_known(service["command"])
    assert COMPOSE["services"]["prefect"]["environment"].keys() >= {"PREFECT_SERVER_DATABASE_CONNECTION_URL", "DO_NOT_TRACK"}
    for name in ("department", "worker"):
        assert COMPOSE["services"][name]["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"
        assert "site:/srv/mrtai" in COMPOSE["services"][name]["volumes"]


def test_images_come_from_nowhere_but_docker_hub():
    images = {service["image"] for service in COMPOSE["services"].values()}
    images |= set(re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    assert images == {"mrtai", "postgres:15", "python:3.11-slim"}


def test_the_image_is_made_of_files_that_are_there():
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()}
    assert copied >= {"mrtai", "workflows", "constraints.txt"}
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert copied == allowed
    for name in copied:
        assert (REPOSITORY / name).exists(), name


def commands(page):
    """Return the commands of ours in a page's code blocks, each from its module on."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("  #")[0]
            for mark, module in (("mrtai-site ", ["workflows"]), ("python -m workflows ", ["workflows"]), ("bin/mrtai ", ["mrtai.cli"])):
                if mark in line and "-- mrtai-site" not in line and not line.startswith("install"):
                    found.append([*module, *shlex.split(line.split(mark, 1)[1])])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists_with_its_flags(page):
    found = commands(page)
    assert found
    for words in found:
        require_known(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text("utf-8")
    named = set(re.findall(r"(?<![\w/.])((?:docs|deploy|mrtai/data)/[\w./@-]*[\w])", text))
    assert named
    for name in named - MADE_BY_THE_READER:
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_reason_that_a_page_explains_is_one_that_is_given(page):
    source = "".join(path.read_text("utf-8") for room in ("mrtai", "workflows") for path in (REPOSITORY / room).rglob("*.py"))
    given = set(re.findall(r"\"([A-Z]+(?:_[A-Z]+)*)\"", source))
    for code in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", page.read_text("utf-8")):
        assert code in given or code.startswith(("MRTAI_", "PREFECT_", "PIP_", "POSTGRES_")), code


def test_the_architecture_has_a_line_for_every_file_of_workflows():
    table = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+\.py)` \|", table, re.MULTILINE))
    assert listed == {path.name for path in (REPOSITORY / "workflows").glob("*.py")} - {"__init__.py"}

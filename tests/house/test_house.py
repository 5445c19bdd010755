"""The house keeps its own rules: what imports what, what loads what, what is documented."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = [path for room in ("mrtai", "workflows", "training", "benchmarks") for path in sorted((REPOSITORY / room).rglob("*.py"))]


def loaded_by(code):
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("code", ["import mrtai", "import mrtai.cli; mrtai.cli._parser().format_help()"])
def test_help_loads_neither_tensors_nor_scheduler(code):
    modules = loaded_by(code)
    assert not modules & {"torch", "monai", "prefect", "SimpleITK", "matplotlib", "pydicom"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_public_name_is_documented_and_small(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            nested = any(node in ast.walk(outer) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) and outer is not node)
            assert nested or ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            # compiled code passes a particle as its coordinates
            compiled = any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)
            named = 0 if compiled else len(node.args.args) + len(node.args.kwonlyargs)
            assert named <= 8, f"{path.name}: {node.name} takes {named} parameters"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_arrays_say_their_shape_and_numbers_their_unit():
    # public functions of the physics room that take or give arrays name a shape or say the shape does not matter
    silent = []
    for path in (REPOSITORY / "mrtai" / "physics").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                signature = ast.unparse(node.args) + ast.unparse(node.returns or ast.Constant(""))
                text = ast.get_docstring(node) or ""
                if "Array" in signature and not re.search(r"shape|\(z, y, x\)|\(\w+, \w+\)|\(\w+,\)|as ``t_h``", text):
                    silent.append(f"{path.name}: {node.name}")
    assert silent == []


def test_nothing_tracked_names_a_machine_or_a_patient_folder():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if name.endswith((".py", ".md", ".toml", ".j2", ".json", "Makefile")) and not name.startswith("tests/reference"):
            text = (REPOSITORY / name).read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"(?<![\w.])/(?:work|root|home)/\w", text), name


def test_the_command_exits_2_with_one_line_and_leaves_nothing(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "MRTAI_KEY_FILE": str(tmp_path / "key")}
    (tmp_path / "key").write_bytes(b"0" * 32)
    command = [sys.executable, "-m", "mrtai.cli", "run", str(empty), "--protocol", "lu177-dotatate", "--out", str(tmp_path / "case")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "case").exists()
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False)
    reason = json.loads(as_json.stderr)
    assert {"code", "what", "where", "found", "remedy"} <= set(reason)

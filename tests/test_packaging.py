"""What the wheel holds."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cli", "producers", "schemas", "serving", "sinks", "streams")


def test_every_package_is_listed():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        "streamgauge." + ".".join(found.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for found in (ROOT / folder).rglob("__init__.py")
    }
    assert set(tool["packages"]) == there


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_folders(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {
        "streamgauge/" + str(found.relative_to(ROOT))
        for folder in FOLDERS
        for found in (ROOT / folder).rglob("*")
        if found.is_file() and "__pycache__" not in found.parts
    }
    assert wanted - names == set()
    assert {name.split("/")[0] for name in names} - {"streamgauge"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }

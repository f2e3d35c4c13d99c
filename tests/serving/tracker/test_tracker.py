"""The browser's tracker: its own tests in Node, and the built file that the collector serves."""

import gzip
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from streamgauge.serving.tracker import SCRIPT

ROOT = Path(__file__).parents[3]
TRACKER = ROOT / "serving" / "tracker"
LIMIT = 5 * 1024
PATIENCE = 90
"""Seconds for npm; a cache that is warm needs two."""


def node(*command: str, cwd: Path = ROOT) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def install(folder: Path) -> None:
    """What the build needs; once more when it does not come at first."""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    said: str | None = None
    for _ in range(2):
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            said = None
            continue
        if done.returncode == 0:
            return
        said = done.stderr.strip()[-300:]
    if said is None:
        pytest.fail(f"npm ci hangs: no esbuild within {PATIENCE} s, twice", pytrace=False)
    pytest.skip(f"npm could not install esbuild: {said}")


def test_in_node() -> None:
    files = sorted(str(file) for file in Path(__file__).parent.glob("*.test.mjs"))
    said = node("node", "--test", *files)
    assert "# fail 0" in said or "fail 0" in said


def test_the_built_file_is_small() -> None:
    assert len(gzip.compress(SCRIPT.read_bytes(), 9)) <= LIMIT


def test_the_built_file_is_that_of_the_source(tmp_path: Path) -> None:
    # Elsewhere, for nothing that npm brings belongs into the package.
    for name in ("package.json", "package-lock.json"):
        shutil.copy(TRACKER / name, tmp_path)
    shutil.copytree(TRACKER / "src", tmp_path / "src")
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    install(tmp_path)
    node("npm", "run", "build", cwd=tmp_path)
    assert (tmp_path / "tracker.js").read_text() == SCRIPT.read_text(), (
        "run: npm ci && npm run build (in serving/tracker)"
    )


def test_the_package_has_our_version_and_no_dependency() -> None:
    package = json.loads((TRACKER / "package.json").read_text())
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package["version"] == ours["version"]
    assert package["license"] == ours["license"]
    assert "dependencies" not in package
    lock = json.loads((TRACKER / "package-lock.json").read_text())
    assert not [one for one in lock["packages"].values() if "resolved" in one]

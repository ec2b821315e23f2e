"""What `python -m build` makes can be installed and used where nothing else is."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kvfs

ROOT = Path(__file__).parents[2]


def run(*args, **kwargs):
    done = subprocess.run(args, check=False, capture_output=True, text=True, timeout=240, **kwargs)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the sdist and the wheel, built of a copy: building leaves files behind."""
    top = tmp_path_factory.mktemp("package")
    files = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if os.path.lexists(ROOT / name):
            (top / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, top / "source" / name)
    # Without isolation: what it needs is here already, and no network is.
    run(sys.executable, "-m", "build", "--no-isolation", "-o", top / "dist", top / "source")
    (sdist,) = (top / "dist").glob("*.tar.gz")
    (wheel,) = (top / "dist").glob("*.whl")
    return sdist, wheel


def needed(package, known=()):
    """Return the names of the distributions that `package` needs, and that those need."""
    found = set(known)
    for text in package.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in found:
            found |= needed(distribution(requirement.name), {*found, requirement.name})
    return found


def test_the_sdist_has_the_whole_source(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("LICENSE", "README.md", "CONTRIBUTING.md", "mount.sh", "mkdocs.yml", ".ci/run"):
        assert wanted in names
    for directory in ("docs", "tests", "kvfs"):
        files = run("git", "ls-files", "-z", directory, cwd=ROOT).split("\0")
        lacking = {name for name in files if name and (ROOT / name).exists()} - names
        assert lacking == set()
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_has_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = archive.namelist()
    assert "kvfs/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {
        "kvfs",
        f"kvfs-{kvfs.__version__}.dist-info",
    }
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "kvfs").rglob("*.py")}
    assert source <= set(names)


def test_the_wheel_works_in_a_clean_environment(built, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python, command = (tmp_path / "venv" / "bin" / name for name in ("python", "kvfs"))
    install = ("install", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, *install, built[1])
    # What it says that it needs, and nothing else of what is here.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (installed,) = distributions(name="kvfs", path=[str(site)])
    for name in needed(installed):
        for file in distribution(name).files:
            top = file.parts[0]
            if top != ".." and not (libraries / top).exists():
                (libraries / top).symlink_to(distribution(name).locate_file(top))
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(libraries)}

    def call(*args):
        return run(*args, cwd=tmp_path, env=clean)

    assert call(command, "--version") == f"kvfs {kvfs.__version__}\n"
    call(command, "init", "store")
    call(command, "put", "store", "a/b", "value")
    assert call(command, "get", "store", "a/b") == "value"
    assert "sound: 1 records" in call(command, "check", "store")
    where = call(python, "-c", "import kvfs; print(kvfs.__file__)")
    assert where.startswith(str(tmp_path / "venv"))

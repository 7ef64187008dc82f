"""Wheel and source archive build, install bare, and hold all that the package reads."""

import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_{kind}({out!r}))"
READS = """
import soilkit
from soilkit import sources, world
from soilkit.export.archives.earthengine import doctor
from soilkit.metrics.evaluation import literature
from soilkit.show import map_views
print(soilkit.__file__)
"""


def python(*words, cwd, executable=sys.executable):
    done = subprocess.run([str(executable), *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("\n")[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive of the tracked files, and the wheel that is built from that archive."""
    folder = tmp_path_factory.mktemp("built")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tree = folder / "tree"
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    sdist = folder / python("-c", BUILD.format(kind="sdist", out=str(folder)), cwd=tree)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    wheel = folder / python("-c", BUILD.format(kind="wheel", out=str(folder)), cwd=source)
    return sdist, wheel


@pytest.mark.slow
def test_a_wheel_from_the_source_archive_installs_bare_and_reads_its_own_files(built, tmp_path):
    """Without an index, into an empty environment; what it depends on stands beside it."""
    _, wheel = built
    python("-m", "venv", str(tmp_path / "bare"), cwd=tmp_path)
    bare = next((tmp_path / "bare").glob("[bS]*/python*"))
    words = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    python("-I", *words, cwd=tmp_path, executable=bare)
    inside = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(python("-c", inside, cwd=tmp_path, executable=bare))
    beside = sysconfig.get_paths()["purelib"]  # last in line, so that soilkit is the wheel's
    code = f"import sys; sys.path.append({beside!r})\n{READS}"
    found = Path(python("-I", "-c", code, cwd=tmp_path, executable=bare))
    assert found.is_relative_to(site)
    files = (
        p for p in (ROOT / "soilkit").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    )
    data = {p.relative_to(ROOT) for p in files if p.suffix != ".py"}
    assert data and all((site / name).is_file() for name in data)
    assert (site / "soilkit" / "py.typed").is_file()

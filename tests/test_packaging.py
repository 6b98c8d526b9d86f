"""The wheel holds the whole tree and nothing else; what is declared is what was tested."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "hf_genret": "hf_genret",
    "modeling": "hf_genret/modeling",
    "spaces_app": "hf_genret/spaces_app",
    "training": "hf_genret/training",
}
CARD = "model_cards/modelcard_template.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_of(room):
    """Files of a top-level folder, relative to it, without what running leaves behind."""
    found = (path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*") if path.is_file())
    return [
        path
        for path in found
        if path.suffix != ".pyc"
        and not any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the tree as it stands, built from a copy."""
    source = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__", ".*")
    for room in (*ROOMS, "model_cards"):
        shutil.copytree(ROOT / room, source / room, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def content(wheel):
    """Names in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_package_is_listed():
    """A folder with an `__init__.py` that pyproject.toml forgot would be missing when installed."""
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {
        Path(place, *path.parts[:-1])
        for room, place in ROOMS.items()
        for path in files_of(room)
        if path.name == "__init__.py"
    }
    missing = {".".join(folder.parts) for folder in folders} - listed
    assert not missing, f"add to [tool.setuptools] packages in pyproject.toml: {sorted(missing)}"


def test_wheel_holds_the_tree(content):
    """Modules, recipes, launch files, templates and metric folders: each file of the rooms."""
    expected = {
        (Path(place) / path).as_posix() for room, place in ROOMS.items() for path in files_of(room)
    }
    expected.add(f"hf_genret/{CARD}")
    packed = {name for name in content if ".dist-info/" not in name}
    assert not expected - packed, (
        f"not in the wheel (an __init__.py, or package-data?): {sorted(expected - packed)}"
    )
    assert not packed - expected, f"in the wheel, not in the tree: {sorted(packed - expected)}"


def test_wheel_holds_each_kind_of_data(content):
    """The parts that are no modules are really there."""
    patterns = [
        r"hf_genret/py\.typed",
        r"hf_genret/spaces_app/(app\.py|README\.md|requirements\.txt)",
        r"hf_genret/evaluation/metric_folders/(\w+)/\1\.py",
        r"hf_genret/training/recipes/uri\.yaml",
        r"hf_genret/training/launch/(multi_gpu|zero2)\.yaml",
        r"hf_genret/training/launch/zero2\.json",
        rf"hf_genret/{CARD}",
    ]
    missing = [text for text in patterns if not any(re.fullmatch(text, name) for name in content)]
    assert not missing


def test_wheel_adds_one_top_level_name(content):
    """Nothing called modeling, training or tests lands in site-packages."""
    tops = {name.split("/")[0] for name in content}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"hf_genret"}


def test_wheel_names_its_command_and_extras(wheel, content):
    """The console script and the extras are in the metadata."""
    (metadata,) = (name for name in content if name.endswith(".dist-info/METADATA"))
    (scripts,) = (name for name in content if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        head = archive.read(metadata).decode()
        assert "hf-genret = hf_genret.cli.main:main" in archive.read(scripts).decode()
    extras = set(re.findall(r"^Provides-Extra: (.+)$", head, flags=re.MULTILINE))
    assert {"baselines", "demo", "deepspeed", "plot", "dev"} <= extras
    assert "License-Expression: Apache-2.0" in head


def test_installed_package_finds_its_rooms_and_data(wheel, tmp_path):
    """From the wheel alone, in another folder: both rooms import, data files are found."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from importlib.resources import files\n"
        "import hf_genret, hf_genret.modeling, hf_genret.training\n"
        "print(hf_genret.modeling.__file__)\n"
        "assert (files('hf_genret.model_cards') / 'modelcard_template.md').is_file()\n"
        "assert (files('hf_genret.training') / 'launch' / 'multi_gpu.yaml').is_file()\n"
        "assert (files('hf_genret.spaces_app') / 'README.md').is_file()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "site/hf_genret/modeling/__init__.py")


def test_checkout_finds_its_rooms_and_data():
    """The same from the checkout, without an installation."""
    from importlib.resources import files

    import hf_genret.modeling

    assert Path(hf_genret.modeling.__file__).parent == ROOT / "modeling"
    assert (files("hf_genret.model_cards") / "modelcard_template.md").is_file()
    assert (files("hf_genret.training") / "launch" / "multi_gpu.yaml").is_file()


def test_constraints_lie_within_the_declared_ranges():
    """Every direct dependency is pinned in constraints.txt, inside its range, by version only."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(pin.url is None for pin in pins)
    tested = {normal(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [
        *PROJECT["project"]["dependencies"],
        *(text for extra in extras for text in extra),
    ]:
        wanted = Requirement(text)
        if normal(wanted.name) in ("hf-genret", "setuptools"):
            continue
        assert normal(wanted.name) in tested, f"{wanted.name} is missing from constraints.txt"
        assert tested[normal(wanted.name)] in wanted.specifier, wanted


def normal(name):
    """A package name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()

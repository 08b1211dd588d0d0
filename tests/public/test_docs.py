from __future__ import annotations

import ast
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from fornix.ops.registered import temporary

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))
# ARCHITECTURE shows outlines, which are not meant to run.
RUN = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def blocks(page: Path, language: str = "python") -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("fornix ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3, 1, 1])
    node = helper.make_node("GlobalAveragePool", ["image"], ["scores"])
    graph = helper.make_graph([node], "tiny", [image], [scores])
    opset = helper.make_opsetid("", 21)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in RUN if blocks(page)], ids=lambda page: page.name)
def test_python_of_the_page_runs(page: Path) -> None:
    names: dict[str, object] = {}
    with temporary():
        for block in blocks(page):
            exec(block, names)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_python_of_the_page_needs_what_comes_with_fornix(page: Path) -> None:
    nodes = [node for block in blocks(page) for node in ast.walk(ast.parse(block))]
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {"fornix", "numpy"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", sorted({line for page in RUN for line in commands(page)}))
def test_command_of_the_page_runs(command: str) -> None:
    arguments = [sys.executable, "-m", "fornix", *shlex.split(command)[1:]]
    run = subprocess.run(arguments, capture_output=True, check=False, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert run.stdout or "--output" in command


@pytest.mark.usefixtures("folder")
def test_readme_prints_what_its_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks(ROOT / "README.md")[0], {})
    printed = capsys.readouterr().out
    assert "image tensor(float) ['N', 3, 224, 224]" in printed
    assert "['GlobalAveragePool']" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
@pytest.mark.parametrize("name", ["check", ".ci/run"])
def test_commands_are_executable(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR

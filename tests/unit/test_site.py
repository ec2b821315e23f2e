"""The documentation as a site: it builds without a warning and without a network."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import click
import pytest

import kvfs
from kvfs.cli.main import cli

ROOT = Path(__file__).parents[2]


def build(target, config=ROOT / "mkdocs.yml"):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", target],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        # A proxy that is not there: whoever wants to fetch something fails.
        env=os.environ
        | dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
        | {"NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    done = build(target)
    assert done.returncode == 0, done.stderr
    return target


def text_of(page):
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text())).split())


def verbs(command, context):
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from verbs(below, click.Context(below, info_name=name, parent=context))


def test_the_command_line_is_there_as_it_is(site):
    shown = text_of(site / "commands.html")
    found = list(verbs(cli, click.Context(cli, info_name="kvfs")))
    assert len(found) > 20
    for path, command in found:
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=path)))
        assert f"{path} {usage}" in shown
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(name in shown for name in parameter.opts)


def test_python_is_there(site):
    found = set(re.findall(r'id="(kvfs\.[\w.]+)"', (site / "python-api.html").read_text()))
    for name in set(kvfs.__all__):
        assert found & {f"kvfs.{name}", f"kvfs.errors.{name}"}, name
    for name in ("put", "get", "delete", "rename", "items", "sync", "compact", "close", "path"):
        assert f"kvfs.Store.{name}" in found
    assert "kvfs.Store.bring_back" not in found


def test_pages_from_elsewhere_are_there_and_lead_to_others(site):
    assert 'href="architecture.html"' in (site / "contributing.html").read_text()
    assert 'href="benchmarking.html"' in (site / "benchmarks.html").read_text()
    assert 'href="benchmarks.html"' in (site / "benchmarking.html").read_text()
    assert not (site / "hooks.py").exists()


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loads = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:https?:)?//[^>]*>", page.read_text()
        )
        assert loads == [], page


@pytest.mark.parametrize(
    "text", ["[a page](none.md)", "[a place](#none)", "[a file](../none.md)", "::: kvfs.none"]
)
def test_what_leads_nowhere_fails(text, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{text}\n")
    config = (ROOT / "mkdocs.yml").read_text().split("# A page of docs that is not here")[0]
    config = config.replace("hooks: [docs/hooks.py]\n", "").replace(
        "paths: [.]", f"paths: [{ROOT}]"
    )
    (tmp_path / "mkdocs.yml").write_text(config)
    assert build(tmp_path / "site", tmp_path / "mkdocs.yml").returncode != 0


def test_a_page_that_nothing_leads_to_fails(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("index.md", "other.md"):
        (tmp_path / "docs" / name).write_text("# A page\n")
    config = (ROOT / "mkdocs.yml").read_text().split("# A page of docs that is not here")[0]
    config = config.replace("hooks: [docs/hooks.py]\n", "") + "nav: [index.md]\n"
    (tmp_path / "mkdocs.yml").write_text(config)
    assert build(tmp_path / "site", tmp_path / "mkdocs.yml").returncode != 0


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []

"""Scripts from npm are the recorded ones or are not used, and the book does without them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import yaml

from companion.build import assets

FILES = {"package/dist/a.js": b"let a = 1;", "package/LICENSE": b"MIT"}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def package(path: Path, **changed: object) -> assets.Package:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    made = assets.Package("a", "1.0.0", f"sha512-{digest}", {"package/dist/a.js": "a.js"})
    return dataclasses.replace(made, **changed)


def test_only_the_wanted_files_are_taken(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", {**FILES, "../../escaped.js": b"x", "/tmp/abs.js": b"x"})
    target = tmp_path / "deep" / "vendor"
    target.mkdir(parents=True)
    assets.unpack(path, package(path), target)
    assert [file.name for file in target.iterdir()] == ["a.js"]
    assert (target / "a.js").read_bytes() == b"let a = 1;"
    assert not list(tmp_path.rglob("escaped.js"))


def test_another_archive_than_the_recorded_one_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", FILES)
    wanted = package(path)
    archive(path, {**FILES, "package/dist/a.js": b"let a = evil;"})
    with pytest.raises(assets.BadAsset, match="sha512-.* was recorded: it is not used"):
        assets.unpack(path, wanted, tmp_path)
    assert not (tmp_path / "a.js").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", {"package/other.js": b""})
    with pytest.raises(assets.BadAsset, match="holds no file package/dist/a.js"):
        assets.unpack(path, package(path), tmp_path)


def npm(folder: Path, script: str) -> None:
    """A program called npm."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def test_an_npm_that_hears_nothing_is_stopped_within_two_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(assets.PACKAGES) * assets._SECONDS <= 120
    npm(tmp_path / "bin", f'echo "$@" > {tmp_path}/words; exec sleep 60')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(assets, "_SECONDS", 1)
    with pytest.raises(assets.BadAsset, match="npm took more than 1 s for mathjax"):
        assets.fetch(tmp_path)
    words = (tmp_path / "words").read_text()
    assert "--fetch-retries=0 --fetch-timeout=1000" in words  # else offline it tries for minutes


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "npm is not installed"),
        (
            "echo first >&2; echo no network >&2; exit 1",
            "could not fetch mathjax 3.2.2: no network",
        ),
        (
            "echo npm error code EAI_AGAIN >&2; echo A complete log of this run >&2; exit 1",
            "could not fetch mathjax 3.2.2: no network\n",
        ),
        ("exit 0", "could not fetch mathjax 3.2.2"),
        ("printf x > mathjax-3.2.2.tgz", "mathjax 3.2.2 from npm has the digest"),
    ],
)
def test_without_the_scripts_the_build_goes_on_and_says_what_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str | None,
    reason: str,
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("")
    if script is not None:
        npm(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    assert assets.main() == 0
    said = capsys.readouterr().err
    assert reason in said and assets.missing_notice() in said
    assert not assets.present(tmp_path)
    assert not list((tmp_path / "book" / "static").iterdir())  # nothing half done


def test_a_file_that_went_missing_is_noticed(tmp_path: Path) -> None:
    folder = assets.vendor_folder(tmp_path)
    folder.mkdir(parents=True)
    for item in assets.PACKAGES:
        for name in item.files.values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
    lines = [f"{item.name} {item.version} {item.integrity}\n" for item in assets.PACKAGES]
    (folder / "versions.txt").write_text("".join(lines))
    assert assets.present(tmp_path)
    (folder / "mathjax" / "startup.js").unlink()
    assert not assets.present(tmp_path)
    (folder / "mathjax" / "startup.js").write_text("")
    (folder / "versions.txt").write_text("older")
    assert not assets.present(tmp_path)


def test_mathjax_is_told_to_load_what_is_served(root: Path) -> None:
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    assert config["mathjax3_config"]["loader"]["load"] == list(assets.MATHJAX_PARTS)
    assert config["mathjax_path"].removeprefix("vendor/") in assets.PACKAGES[0].files.values()


def test_icons_that_no_page_names_are_taken_out() -> None:
    """By name and by other name, with one outline or two; what stays is still a script."""
    script = (
        'var p={"a-b":[1,2,[],"f1","M1 2"],old:[1,2,[9,"new-name"],"f2",["M3","M4"]],'
        'c:[1,2,[],"f3","M5"]};use(p)'
    )
    kept = assets.used_icons(script, ['<i class="fas fa-new-name">'])
    assert kept == 'var p={old:[1,2,[9,"new-name"],"f2",["M3","M4"]],};use(p)'
    assert assets.used_icons(script, ["fa-a-b fa-old", "fa-c"]) == script


def test_rules_of_icons_that_no_page_names_are_taken_out() -> None:
    sheet = (
        '.a{b:c}.fa-x:before{content:"\\f1"}.fa-old:before,.fa-new:before{content:"\\f2"}.d{e:f}'
    )
    kept = assets.used_rules(sheet, ['<i class="fas fa-new">'])
    assert kept == '.a{b:c}.fa-old:before,.fa-new:before{content:"\\f2"}.d{e:f}'


def test_letters_that_no_formula_asks_for_are_taken_out() -> None:
    """By part of the font and by code point; what stays is still a script."""
    font = (
        'f((0,H.AddPaths)(V.normal,{65:"M1",119860:"M2",120068:"M3",120224:"M4"},{9:"\\u2032"}),'
        '(0,H.AddPaths)(V.fraktur,{65:"M5"},{}),(0,H.AddPaths)(V.sansSerifBold,{65:"M6"},{}))'
    )
    kept = assets.used_alphabets(font, [r"\(\mathsf{A}\)"])
    assert '65:"M1",119860:"M2",120224:"M4"' in kept and 'V.sansSerifBold,{65:"M6"}' in kept
    assert "M3" not in kept and "V.fraktur,{}" in kept
    assert assets.used_alphabets(font, [r"\mathfrak \mathsf"]) == font

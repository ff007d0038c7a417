"""The Dockerfile: linted, and what it promises about the image; the static link is tried with the real compiler."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pathspec
import pytest
from conftest import BINARY, DEPLOY, ROOT

DOCKERFILE = DEPLOY / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), line continuations joined, comments dropped."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    last = max(i for i, (name, _) in enumerate(every) if name == "FROM")
    return every[last:]


def one(name: str) -> str:
    (found,) = [arguments for instruction, arguments in final_stage() if instruction == name]
    return found


def test_the_linter_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_is_empty_but_for_the_binary_and_its_folders():
    assert one("FROM") == "scratch"
    assert one("COPY") == "--from=build /image/ /"
    assert not [arguments for name, arguments in final_stage() if name == "RUN"]


def test_it_runs_as_a_number_that_is_not_root_and_owns_its_data():
    user, group = one("USER").split(":")
    assert int(user) > 0 and int(group) > 0
    assert json.loads(one("VOLUME")) == ["/data"]
    assert f"install -d -o {user} -g {group} -m 0750 /image/data" in DOCKERFILE.read_text()


def test_commands_need_no_shell():
    assert json.loads(one("ENTRYPOINT")) == [BINARY]
    assert json.loads(one("CMD"))[0] == "up"
    health = json.loads(one("HEALTHCHECK").split("CMD", 1)[1])
    assert health[:3] == [BINARY, "health", "--url"]
    plain, encrypted = one("EXPOSE").split()
    assert f":{plain}/" in health[3] and f":{plain}" in " ".join(json.loads(one("CMD")))
    # Where `up` speaks TLS where http.listen has 8080 and nothing else is said.
    assert (plain, encrypted) == ("8080", "8443")


def test_it_builds_what_the_workspace_has():
    build = next(arguments for name, arguments in instructions() if name == "RUN" and "cargo build" in arguments)
    profile = re.search(r"--profile (\S+)", build)[1]
    package = re.search(r"--package (\S+)", build)[1]
    binary = re.search(r"--bin (\S+?);?\s", build)[1]
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert profile in workspace["profile"]
    crate = next(
        manifest
        for manifest in (tomllib.loads(path.read_text()) for path in ROOT.glob("crates/*/Cargo.toml"))
        if manifest["package"]["name"] == package
    )
    assert binary in [b["name"] for b in crate["bin"]]
    assert f"target/$target/{profile}/{binary}" in build
    compiler = re.search(r"rust:(\d+)\.(\d+)", instructions()[0][1]).groups()
    least = workspace["workspace"]["package"]["rust-version"].split(".")[:2]
    assert tuple(map(int, compiler)) >= tuple(map(int, least))


def test_the_build_context_has_every_file_that_cargo_may_read():
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines(lines)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    outside = [path for path in tracked if path and ignored.match_file(path)]
    assert not [path for path in outside if not path.startswith(("deploy/", ".ci/", "bench/"))]
    assert ignored.match_file("target/debug/tessera") and ignored.match_file("data/ingest.db")
    sources = "".join(path.read_text() for path in ROOT.glob("crates/**/*.rs"))
    assert not re.search(r'include_(str|bytes)!\([^)]*deploy/', sources), "a crate embeds a file of deploy/"


def test_the_flag_in_the_dockerfile_links_a_static_binary(tmp_path):
    rustc = shutil.which("rustc")
    if not rustc:
        pytest.fail("`rustc` is not on PATH; install Rust with rustup")
    (tmp_path / "main.rs").write_text(
        "use std::net::ToSocketAddrs;\n"
        'fn main() { println!("{}", ("localhost", 80).to_socket_addrs().is_ok_and(|mut a| a.next().is_some())); }\n'
    )
    flags = dict(instructions())["ENV"].split('"')[1].split()
    host = subprocess.run([rustc, "--print", "host-tuple"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([rustc, "-O", *flags, "--target", host, "main.rs"], cwd=tmp_path, check=True, capture_output=True)
    headers = subprocess.run(["readelf", "--program-headers", tmp_path / "main"], capture_output=True, text=True, check=True)
    assert "INTERP" not in headers.stdout
    ran = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert ran.stdout == "true\n"

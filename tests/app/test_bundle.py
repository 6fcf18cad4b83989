"""Nothing that was touched, and nothing untrusted, is ever served or run."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from inference_app import bundle
from inference_app.errors import ModelError
from inference_app.model import load
from inference_app.settings import Settings

from .conftest import ROOT, Process


@pytest.fixture
def copy(wine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wine, tmp_path / "model"))


def test_the_bundle_is_the_same_to_the_byte_every_time(wine: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "again")
    assert "made wine" in done
    for file in wine.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    assert "is current" in train(tmp_path / "again")
    (tmp_path / "again" / "model.onnx").unlink()
    assert "made wine" in train(tmp_path / "again")


def train(output: Path) -> str:
    command = [sys.executable, "-m", "inference_app.train", "--output", str(output)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["metadata.json", "golden.json", "model.skops", "model.onnx", "README.md"])
def test_one_flipped_bit_anywhere_is_found(copy: Path, name: str) -> None:
    file = copy / name
    good = file.read_bytes()
    for place in {*range(0, len(good), max(1, len(good) // 200)), len(good) - 1}:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        file.write_bytes(bad)
        with pytest.raises(ModelError):
            bundle.read(copy)
    for bad in (good[:-1], good + b" ", b""):
        file.write_bytes(bad)
        with pytest.raises(ModelError):
            bundle.read(copy)
    file.unlink()
    with pytest.raises(ModelError, match=name):
        bundle.read(copy)


def test_a_flipped_byte_is_never_ready_and_named_on_both_sides(start: Callable[..., Process], copy: Path) -> None:
    file = copy / "model.onnx"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    server = start(MODEL_PATH=str(copy))
    answer = server.wait(until=lambda a: a.status_code == 503 and "being loaded" not in a.text)
    reason = answer.json()["reason"]
    assert (
        bundle.sha256(bytes(data)) in reason
        and json.loads((copy / "metadata.json").read_text())["files"]["model.onnx"]["sha256"] in reason
    )


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def served(directory: Path, **settings: Any) -> None:
    load(Settings(model_path=directory, **settings))


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    directory = tmp_path / "model"
    directory.mkdir()
    (joblib.dump if name.endswith("joblib") else dump)(Canary(canary), directory / name)
    with pytest.raises(ModelError, match=r"python -m inference_app\.export .* --allow-pickle --sha256"):
        served(directory)
    found = bundle.sha256((directory / name).read_bytes())
    data = tmp_path / "data.csv"
    data.write_text("a,b\n1,2\n3,4\n")
    for arguments, said in (
        ([], "is a pickle"),
        (["--allow-pickle"], "is a pickle"),
        (["--sha256", found], "is a pickle"),
        (["--allow-pickle", "--sha256", "0" * 64], found),
    ):
        done = export(directory / name, data, tmp_path / "out", *arguments)
        assert done.returncode == 1 and said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not canary.exists() and not (tmp_path / "out").exists()


def dump(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def export(source: Path, data: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference_app.export", str(source), "--data", str(data), "--output", str(output)]
    command += ["--name", "m", "--version", "1", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def malicious_skops(canary: Path) -> bytes:
    """A skops file that names os.system as the function of a FunctionTransformer, as skops itself would write it."""
    import io
    import os

    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    data = skops.io.dumps(FunctionTransformer(func=os.system, kw_args={"command": f"touch {canary}"}))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert "system" in file.read("schema.json").decode()
    return data


def test_a_skops_file_with_an_untrusted_type_is_refused_by_name(copy: Path, tmp_path: Path) -> None:
    source = bundle.read(copy)
    canary = tmp_path / "canary"
    files = {"model.skops": malicious_skops(canary)}
    digest = bundle.write(copy, source.metadata, files, source.pairs)
    (copy / "model.onnx").unlink()
    for settings in ({}, {"model_sha256": digest}, {"model_backend": "sklearn"}):
        with pytest.raises(ModelError, match=r"not trusted: .*system"):
            served(copy, **settings)
    assert not canary.exists()


def test_a_bundle_cannot_name_a_file_outside_itself(copy: Path) -> None:
    source = bundle.read(copy)
    outside = {f"../{name}": data for name, data in source.files.items()}
    bundle.write(copy, source.metadata, outside, source.pairs)
    with pytest.raises(ModelError, match="not a plain file name"):
        bundle.read(copy)


def test_a_wine_estimator_from_a_pickle_is_exported_when_it_is_allowed_twice(tmp_path: Path, wine: Path) -> None:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    names = [feature["name"] for feature in json.loads((wine / "metadata.json").read_text())["features"]]
    records = [[*row, target] for row, target in zip(x.tolist(), y.tolist(), strict=True)]
    lines = [",".join([*names, "target"]), *(",".join(map(repr, record)) for record in records)]
    (tmp_path / "wine.csv").write_text("\n".join(lines))
    joblib.dump(estimator(), tmp_path / "model.joblib")
    found = bundle.sha256((tmp_path / "model.joblib").read_bytes())
    done = export(
        tmp_path / "model.joblib",
        tmp_path / "wine.csv",
        tmp_path / "out",
        *("--target", "target", "--allow-pickle", "--sha256", found, "--class-names", "class_0,class_1,class_2"),
    )
    assert done.returncode == 0, done.stderr
    assert "warning: running the code" in done.stderr and "served by ONNX" in done.stdout
    made, default = (json.loads((path / "metadata.json").read_text()) for path in (tmp_path / "out", wine))
    assert made["files"]["model.onnx"] == default["files"]["model.onnx"]
    served(tmp_path / "out")


def estimator() -> Any:
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_wine(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression(random_state=0)).fit(x, y)

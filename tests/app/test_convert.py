"""ONNX is served only where it is proven to say what scikit-learn says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.base import is_regressor
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inference_app import bundle, convert
from inference_app.backend_onnx import OnnxBackend
from inference_app.errors import ModelError
from inference_app.export import export
from inference_app.model import load
from inference_app.settings import Settings

from .conftest import Process

WINE, DIABETES = load_wine(), load_diabetes()


@pytest.mark.parametrize(
    ("estimator", "trees"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), False),
        (RandomForestClassifier(20, random_state=0), True),
        (make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)), True),
        (GradientBoostingClassifier(n_estimators=10, random_state=0), True),
        (make_pipeline(StandardScaler(), Ridge()), False),
        (RandomForestRegressor(5, random_state=0), True),
    ],
    ids=lambda value: "-".join(step for step, _ in value.steps) if hasattr(value, "steps") else type(value).__name__,
)
def test_it_agrees(estimator: Any, trees: bool) -> None:
    data = DIABETES if is_regressor(estimator) else WINE
    estimator.fit(data.data, data.target)
    graph = convert.to_onnx(estimator, data.data.shape[1])
    proof = convert.prove(estimator, graph, data.data)
    assert proof.largest_difference < 1e-6
    assert proof.points > 2000
    assert bool(proof.tree_nodes) == trees


def forest() -> tuple[Any, bytes]:
    estimator = RandomForestClassifier(10, random_state=0).fit(WINE.data, WINE.target)
    return estimator, convert.to_onnx(estimator, 13)


def changed(graph: bytes, attribute: str, change: Callable[[Any], None]) -> bytes:
    model = onnx.load_model_from_string(graph)
    node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    change(next(a for a in node.attribute if a.name == attribute))
    return bytes(model.SerializeToString())


def test_a_threshold_one_float_too_high_is_found_in_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, graph = forest()

    def up(attribute: Any) -> None:
        place = next(n for n, value in enumerate(attribute.floats) if value)
        attribute.floats[place] = np.nextafter(np.float32(attribute.floats[place]), np.float32(np.inf))

    other = changed(graph, "nodes_values", up)
    with pytest.raises(convert.NotEqual, match=r"tree 0, node \d+"):
        convert._same_trees(estimator, other)
    with pytest.raises(convert.NotEqual):
        convert.prove(estimator, other, WINE.data)


def test_another_probability_is_found_on_the_points() -> None:
    estimator, graph = forest()

    def more(attribute: Any) -> None:
        attribute.floats[0] += 0.01

    with pytest.raises(convert.NotEqual, match=r"answers differ|labels differ"):
        convert.prove(estimator, changed(graph, "class_weights", more), WINE.data)


def test_a_scaler_in_float32_before_trees_is_refused() -> None:
    from skl2onnx import to_onnx

    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(100, random_state=0)).fit(WINE.data, WINE.target)
    naive = to_onnx(estimator, WINE.data[:1].astype(np.float32), options={"zipmap": False})
    naive.graph.output.remove(naive.graph.output[0])
    backend = OnnxBackend(naive.SerializeToString(), "naive")
    difference = np.abs(backend(WINE.data.astype(np.float32)) - estimator.predict_proba(WINE.data)).max()  # type: ignore[arg-type]
    assert difference > convert.TOLERANCE
    assert convert.prove(estimator, convert.to_onnx(estimator, 13), WINE.data).largest_difference < 1e-6


def made(estimator: Any, directory: Path, data: Any = WINE) -> dict[str, Any]:
    estimator.fit(data.data, data.target)
    export(estimator, directory, name="m", version="2", rows=data.data, feature_names=list(data.feature_names))
    return bundle.read(directory).metadata


@pytest.mark.parametrize(
    ("estimator", "why"),
    [(KNeighborsClassifier(), "labels differ"), (RidgeClassifier(), "don't follow from probabilities")],
)
def test_what_cannot_be_proven_is_served_by_scikit_learn(estimator: Any, why: str, tmp_path: Path) -> None:
    metadata = made(estimator, tmp_path)
    assert why in metadata["onnx"]["why"] and why in (tmp_path / "README.md").read_text()
    model = load(Settings(model_path=tmp_path))
    assert model.backend.name == "sklearn"
    answer = model.answers(WINE.data[:5], [2, 3])
    assert [p for body in answer for p in body["predictions"]] == estimator.predict(WINE.data[:5]).tolist()


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (
            make_pipeline(StandardScaler(), Ridge()).fit(DIABETES.data, DIABETES.target),
            "takes 10 features, the data has 13",
        ),
        (StandardScaler().fit(WINE.data), "StandardScaler doesn't predict"),
    ],
    ids=["other data", "no estimator"],
)
def test_what_cannot_be_served_is_not_exported(estimator: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        export(estimator, tmp_path, name="m", version="1", rows=WINE.data, feature_names=list(WINE.feature_names))
    assert list(tmp_path.iterdir()) == []


def test_onnx_is_served_without_scikit_learn_and_a_regressor_answers_numbers(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    made(make_pipeline(StandardScaler(), Ridge()), tmp_path, DIABETES)
    server = start(MODEL_PATH=str(tmp_path))
    server.wait()
    body = server.client.post("/predict", json={"features": DIABETES.data[:2].tolist()}).json()
    assert set(body) == {"predictions", "model_version"}
    golden = json.loads((tmp_path / "golden.json").read_text())["pairs"][0]["response"]["predictions"]
    assert body["predictions"][0] == pytest.approx(golden[0])
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert not any(heavy in maps for heavy in ("/sklearn/", "/scipy/", "/pandas/"))


@pytest.mark.parametrize("backend", ["onnx", "sklearn"])
def test_rows_that_wait_together_get_each_their_own_answer(wine: Path, backend: str) -> None:
    model = load(Settings(model_path=wine, model_backend=backend))
    alone = [model.answers(WINE.data[i : i + 1], [1])[0] for i in range(0, 178, 20)]
    together = model.answers(WINE.data[::20], [1] * len(alone))
    for one, many in zip(alone, together, strict=True):
        assert one["predictions"].tolist() == many["predictions"].tolist()
        assert one["probabilities"][0] == pytest.approx(many["probabilities"][0])

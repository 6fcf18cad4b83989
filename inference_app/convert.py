# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""scikit-learn to ONNX, with the proof that both say the same. Needed for export only, never for serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend_onnx import OnnxBackend
from .errors import ModelError
from .model import Matrix

TOLERANCE = 1e-5  # of a probability, or of a value relative to its size
UNDECIDED = 2 * TOLERANCE  # labels may differ where scikit-learn's top two are closer than this
SEED = 0
BOUNDARY_PAIRS = 200
THRESHOLD_POINTS = 20_000


class NotEqual(ModelError):
    """The graph differs from the estimator, or there is no graph: scikit-learn must serve."""


@dataclass(frozen=True)
class Proof:
    """How far the graph is from scikit-learn, and on how much it was asked."""

    points: int
    largest_difference: float
    labels_differing: int  # all of them where scikit-learn itself is undecided
    tree_nodes: int  # compared one by one; 0 for a model without trees


def to_onnx(estimator: Any, width: int) -> bytes:
    """A graph of float64 rows to probabilities or values; NotEqual if skl2onnx has no converter.

    Whatever stands before a tree is computed in float64 and then rounded to float32, as scikit-learn does it: computed
    in float32, a scaled value falls on the other side of its threshold often enough to change answers.
    """
    try:
        *before, last = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
        if _trees(last) is None:
            model = _skl2onnx(estimator, width, double=True)
        else:
            from sklearn.pipeline import make_pipeline

            scaled = _skl2onnx(make_pipeline(*before), width, double=True) if before else None
            model = _joined(scaled, _skl2onnx(last, last.n_features_in_, double=False), width)
        _keep_output(model.graph, -1)
        graph: bytes = model.SerializeToString()
        OnnxBackend(graph, "the converted graph")
    except Exception as error:
        raise NotEqual(f"no ONNX graph: {' '.join(str(error).split())[:200] or type(error).__name__}") from None
    return graph


def _skl2onnx(estimator: Any, width: int, *, double: bool) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if double else FloatTensorType
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    return skl2onnx.to_onnx(estimator, initial_types=[("rows", kind([None, width]))], options=options)


def _joined(before: Any, last: Any, width: int) -> Any:
    """One graph: the steps before in float64, a rounding to float32, the trees."""
    from onnx import TensorProto, compose, helper

    cast = helper.make_model(
        helper.make_graph(
            [helper.make_node("Cast", ["rows64"], ["rows32"], to=TensorProto.FLOAT)],
            "round",
            [helper.make_tensor_value_info("rows64", TensorProto.DOUBLE, [None, width])],
            [helper.make_tensor_value_info("rows32", TensorProto.FLOAT, [None, width])],
        ),
        opset_imports=last.opset_import,
        ir_version=last.ir_version,
    )
    model = compose.merge_models(cast, compose.add_prefix(last, "trees_"), [("rows32", "trees_rows")])
    if before is not None:
        before = compose.add_prefix(before, "before_")
        before.ir_version = model.ir_version
        imports = {entry.domain: entry for entry in (*before.opset_import, *model.opset_import)}
        for part in (before, model):
            del part.opset_import[:]
            part.opset_import.extend(imports.values())
        model = compose.merge_models(before, model, [(before.graph.output[0].name, "rows64")])
    return model


def _keep_output(graph: Any, index: int) -> None:
    """Drop all outputs but one, and the nodes that only fed the others."""
    kept = graph.output[index]
    needed = {kept.name}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    del graph.output[:]
    graph.output.append(kept)
    unused = [value for value in graph.initializer if value.name not in needed]
    for value in unused:
        graph.initializer.remove(value)


def prove(estimator: Any, graph: bytes, rows: Matrix) -> Proof:
    """Compare on all training rows, on decision boundaries, at thresholds and far outside; NotEqual names the worst."""
    backend = OnnxBackend(graph, "the converted graph")
    points = np.concatenate(list(_points(estimator, rows)))
    found = np.asarray(backend(points), dtype=np.float64)
    differing = 0
    if hasattr(estimator, "classes_"):
        expected = estimator.predict_proba(points)
        top = np.sort(expected, axis=1)
        # some estimators' predict isn't their likeliest class: then the graph can't say what predict says
        unequal = estimator.classes_[found.argmax(axis=1)] != estimator.predict(points)
        decided = unequal & (top[:, -1] - top[:, -2] > UNDECIDED)
        if decided.any():
            raise NotEqual(f"{decided.sum()} of {len(points)} labels differ from scikit-learn's predict")
        differing = int(unequal.sum())
        scale: Any = 1.0
    else:
        expected = estimator.predict(points).reshape(len(points), -1)
        scale = np.maximum(1.0, np.abs(expected))
    difference = np.abs(found.reshape(expected.shape) - expected) / scale
    worst = float(difference.max())
    if not worst <= TOLERANCE:
        count = int((~(difference <= TOLERANCE)).any(axis=1).sum())
        raise NotEqual(
            f"{count} of {len(points)} answers differ from scikit-learn's by up to {worst:.3g} (> {TOLERANCE})"
        )
    return Proof(len(points), worst, differing, _same_trees(estimator, graph))


def _points(estimator: Any, rows: Matrix) -> Iterator[Matrix]:
    random = np.random.default_rng(SEED)
    yield rows
    low, high = rows.min(axis=0), rows.max(axis=0)
    yield random.uniform(low - (high - low), high + (high - low), (2000, rows.shape[1]))
    yield rows[:50] * 1e6
    yield np.array([[0.0], [1e-300], [1e30], [-1e30]]) * np.ones(rows.shape[1])
    if hasattr(estimator, "classes_"):
        yield from _boundaries(estimator, rows, random)
    if thresholds := _thresholds(estimator):
        # the trees' own inputs, so only where nothing stands before them
        picked = random.permutation(len(thresholds))[:THRESHOLD_POINTS]
        feature, threshold = (np.array(column)[picked] for column in zip(*thresholds, strict=True))
        near = threshold.astype(np.float32)
        for value in (threshold, near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
            points = rows[random.integers(len(rows), size=len(picked))].copy()
            points[np.arange(len(picked)), feature.astype(int)] = value
            yield points


def _boundaries(estimator: Any, rows: Matrix, random: np.random.Generator) -> Iterator[Matrix]:
    """Both sides, one float64 apart, of where the label changes between two rows."""
    label = estimator.predict(rows)
    a, b = (rows[random.integers(len(rows), size=BOUNDARY_PAIRS)] for _ in range(2))
    apart = estimator.predict(a) != estimator.predict(b)
    if len(set(label)) < 2 or not apart.any():
        return
    a, b = a[apart], b[apart]
    start = estimator.predict(a)
    for _ in range(60):
        middle = (a + b) / 2
        same = (estimator.predict(middle) == start)[:, None]
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    yield a
    yield b


def _trees(estimator: Any) -> list[Any] | None:
    """scikit-learn's trees in the order in which skl2onnx numbers them; None if it isn't made of trees."""
    if hasattr(estimator, "tree_"):
        return [estimator.tree_]
    members = getattr(estimator, "estimators_", None)
    if members is None:
        return None
    flat = list(np.ravel(members))
    return [member.tree_ for member in flat] if all(hasattr(member, "tree_") for member in flat) else None


def _thresholds(estimator: Any) -> list[tuple[int, float]]:
    trees = _trees(estimator) or []
    return [
        (int(feature), float(threshold))
        for tree in trees
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True)
        if feature >= 0
    ]


def _floor32(value: float) -> np.float32:
    """The largest float32 that isn't above value: x <= value and x <= that are the same for every float32 x."""
    near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))


def _same_trees(estimator: Any, graph: bytes) -> int:
    """Walk each of scikit-learn's trees beside the graph's: same leaf for every float32 input, or NotEqual."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    trees = _trees(last)
    if trees is None:
        return 0
    import onnx

    nodes = [node for node in onnx.load_model_from_string(graph).graph.node if node.op_type.startswith("TreeEnsemble")]
    if len(nodes) != 1:
        raise NotEqual(f"the graph has {len(nodes)} tree ensembles, one was expected")
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in nodes[0].attribute}
    names = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    table = {(tree, node): rest for tree, node, *rest in zip(*(values[f"nodes_{name}"] for name in names), strict=True)}
    for number, tree in enumerate(trees):
        stack = [(0, 0)]
        while stack:
            ours, theirs = stack.pop()
            mode, feature, value, true, false = table[number, theirs]
            left = tree.children_left[ours]
            if left == -1:
                same = mode == b"LEAF"
            else:
                same = (
                    mode == b"BRANCH_LEQ"
                    and feature == tree.feature[ours]
                    and np.float32(value) == _floor32(tree.threshold[ours])
                )
                stack += [(left, true), (tree.children_right[ours], false)]
            if not same:
                raise NotEqual(f"tree {number}, node {ours}: another test than scikit-learn's")
    return sum(tree.node_count for tree in trees)

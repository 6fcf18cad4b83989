# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""scikit-learn: the truth that every other backend is measured against."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
import skops.io
from numpy.typing import NDArray

from .bundle import SKOPS, Bundle
from .errors import ModelError
from .model import Matrix

# Beyond what skops trusts by itself. A bundle can't add to it: trust isn't the file's to give.
TRUSTED_TYPES = [
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
]


class SklearnBackend:
    """An estimator from the bundle's skops file."""

    name = "sklearn"

    def __init__(self, source: Bundle) -> None:
        made_with = source.metadata.get("versions", {}).get("scikit-learn")
        if made_with != sklearn.__version__:
            raise ModelError(
                f"{source.path}: made with scikit-learn {made_with}, this server has {sklearn.__version__}"
            )
        self.estimator = load_skops(source.files[SKOPS], str(source.path / SKOPS))
        classes = source.metadata.get("classes")
        if classes is None:
            self._call = self.estimator.predict
        elif source.metadata["probabilities"]:
            self._call = self.estimator.predict_proba
        else:
            places = np.eye(len(classes))
            self._call = lambda rows: places[np.searchsorted(self.estimator.classes_, self.estimator.predict(rows))]
        # our own validation comes first, and theirs costs more than a small model
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        result: NDArray[Any] = self._call(rows)
        return result


def load_skops(data: bytes, where: str) -> Any:
    """The estimator in a skops file; ModelError names the types that are not trusted."""
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED_TYPES))
        if unknown:
            raise ModelError(f"{where}: holds types that are not trusted: {', '.join(unknown)}")
        return skops.io.loads(data, trusted=TRUSTED_TYPES)
    except ModelError:
        raise
    except Exception as error:  # a file that isn't skops, or that lies, fails in too many ways to name
        raise ModelError(f"{where}: not a skops file that can be loaded: {type(error).__name__}: {error}") from None

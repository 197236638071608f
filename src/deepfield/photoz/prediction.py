"""A prediction of redshifts: core's prediction, and the form in which the field's tools take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from deepfield.core.prediction import Prediction


class RedshiftPrediction(Prediction):
    """What ``photoz.predict`` returns: redshift densities of N objects."""

    def to_qp(self, ids: ArrayLike | None = None, extra: Mapping[str, ArrayLike] | None = None) -> Any:
        """As a ``qp.Ensemble`` in memory (extra ``photoz``), with zmode, zmean, zmedian, z_lo68, z_hi68 beside it.

        See :func:`deepfield.photoz.to_qp`, which takes any scalar prediction.

        Examples
        --------
        >>> pz = RedshiftPrediction.mixture([[1.0], [1.0]], [[0.5], [0.7]], [[0.1], [0.2]])
        >>> pz[1:].to_qp(ids=[42]).ancil["object_id"].tolist()
        [42]
        """
        from deepfield.photoz.export_qp import to_qp

        return to_qp(self, ids, extra)

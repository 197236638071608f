"""The methods to beat: a template fit, which needs no training, and nearest neighbours, which need no model.

Both answer with a density on a grid of redshifts and share one interface::

    TemplateFit().fit(train, val).predict(table)
    NearestNeighbours().fit(train, val).predict(table)

Both read fluxes and errors as `deepfield.data.photometry.photometry` gives them: a band that was not observed is
left out, one where nothing was detected counts as a flux of zero with the error of its limit.
"""

from deepfield.photoz.neighbours import NearestNeighbours
from deepfield.photoz.template_fit import TemplateFit

__all__ = ["NearestNeighbours", "TemplateFit"]

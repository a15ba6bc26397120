"""The probing submission: a regressor that predicts zeros and, meanwhile, does what it is told."""

from typing import Any

import numpy as np

from . import excess, files, kernel, labels, leftovers, network
from .attempts import BAIT

# What is done at the fit, before the train part is predicted, and before the test part is.
STEPS = {
    "escapes": (
        (network.try_all, files.try_all, leftovers.leave_all),
        (labels.try_all,),
        (kernel.try_all,),
    ),
    "aftermath": (
        (leftovers.find_all, excess.write_too_much),
        (),
        (excess.take_memory,),
    ),
    "child_memory": ((excess.take_memory_in_a_child,),),
    "cpu": ((excess.burn,),),
    "processes": ((excess.fork_too_much,),),
}


class Regressor:
    def fit(self, X: Any, y: Any) -> None:
        self._given = y
        self._steps = iter(STEPS[BAIT["role"]])
        self._take_step()

    def predict(self, X: Any) -> Any:
        self._take_step()
        return np.zeros(len(X))

    def _take_step(self) -> None:
        for act in next(self._steps, ()):
            act()

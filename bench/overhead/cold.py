"""One fold in a Python of its own: `python -m bench.overhead.cold WORK NUMBER ANSWER`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from bench.overhead.answers import write_answer
from bench.overhead.work import Trainer, Work


def main() -> None:
    """Train the fold of that number of the pickled work and write its predictions."""
    work: Work = pickle.loads(Path(sys.argv[1]).read_bytes())
    trainer = Trainer(work, is_warm=False)
    write_answer(trainer.train(work.folds[int(sys.argv[2])]), Path(sys.argv[3]))


if __name__ == "__main__":
    main()

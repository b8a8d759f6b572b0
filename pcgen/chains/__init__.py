"""What surrounds a Langevin chain in training: where it begins, how its codes are found, and what watches over it."""

from pcgen.chains.guard import DivergenceGuard, Fault
from pcgen.chains.inference import CodeInference
from pcgen.chains.starts import ChainStart, DataStart, NoiseStart, PersistentStart

__all__ = [
    "ChainStart",
    "CodeInference",
    "DataStart",
    "DivergenceGuard",
    "Fault",
    "NoiseStart",
    "PersistentStart",
]

"""ReSoRA: penalties on the redundancy between the rank-1 subspaces of low-rank adapters.

The method of *Regularizing Subspace Redundancy of Low-Rank Adaptation* (arXiv 2507.20745), as a
library on torch alone, with the methods that it is compared with. It knows no benchmark.
"""

from resora.merging import merge
from resora.regularizer import ReSoRA

__version__ = "0.1.0"
__all__ = ["ReSoRA", "__version__", "merge"]

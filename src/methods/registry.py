"""The methods that no layer of the objective holds, by name; staged ones have a graph.

This is not in `__init__.py`, so that reading options loads no torch.
"""

from src.methods import afr, cnc, crt, dfr, dpe, eiil, jtt, self_disagreement, ssa, xrm
from src.methods.cnc import CnC
from src.methods.lff import LfF
from src.methods.mixup import Lisa, Mixup
from src.methods.pde import PDE
from src.methods.ssa_fold import SsaFold
from src.training.method import Method

GRAPHS = {
    "jtt": jtt.graph,
    "dfr": dfr.graph,
    "afr": afr.graph,
    "crt": crt.graph,
    "self": self_disagreement.graph,
    "dpe": dpe.graph,
    "eiil": eiil.graph,
    "xrm": xrm.graph,
    "cnc": cnc.graph,
    "ssa": ssa.graph,
}
IN_LOOP = {
    None: Method,
    "mixup": Mixup,
    "lisa": Lisa,
    "lff": LfF,
    "pde": PDE,
    "cnc": CnC,
    "ssa": SsaFold,
}

"""Methods that no layer of the objective holds; staged ones have a graph."""

from src.methods import jtt
from src.methods.lff import LfF
from src.methods.mixup import Lisa, Mixup
from src.methods.pde import PDE
from src.training.method import Method

GRAPHS = {"jtt": jtt.graph}
IN_LOOP = {None: Method, "mixup": Mixup, "lisa": Lisa, "lff": LfF, "pde": PDE}

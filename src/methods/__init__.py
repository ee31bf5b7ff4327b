"""Methods that no layer of the objective holds; staged ones have a graph."""

from src.methods import jtt

GRAPHS = {"jtt": jtt.graph}

"""Train a network: the same as train.py.

python train_erm.py exp=erm ...
"""

from train import entrypoint

if __name__ == "__main__":
    entrypoint()

"""Just Train Twice: the same as train.py, with its stages.

python train_jtt.py exp=jtt ...
"""

from train import entrypoint

if __name__ == "__main__":
    entrypoint()

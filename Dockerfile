# CPU:  docker build -t group-robust .
# CUDA: docker build -t group-robust:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# Run:  docker run --rm -v "$PWD/data:/app/data" -v "$PWD/logs:/app/logs" group-robust train.py exp=erm
#       (CUDA: add --gpus all; several decoding processes: add --ipc=host)
# This file was checked by reading; it has not been built in the project's CI.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /app
# Packages before the code, so that a change of code does not install them again.
COPY requirements.txt .
RUN pip install "torch>=2.11" "torchvision>=0.26" --index-url "$TORCH_INDEX" \
    && pip install -r requirements.txt

COPY . .
RUN useradd --create-home user && mkdir -p data logs outputs && chown user data logs outputs
USER user

ENTRYPOINT ["python"]
CMD ["train.py", "--list"]

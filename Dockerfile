# Two images, one for a CPU and one for NVIDIA's GPUs, which differ in torch alone:
#   docker build --target cpu -t mocox:cpu .
#   docker build --target cuda -t mocox:cuda .
FROM python:3.13-slim-bookworm AS base
# What OpenCV loads. Debian's newest of its stable release: a pinned version would leave the archive with the next repair.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY . .

FROM base AS cuda-packages
# PyPI's torch brings CUDA's libraries; the host has the driver. setup.py says which versions will do.
RUN pip install .

FROM base AS cpu-packages
# hadolint ignore=DL3013
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install .

# HOME: whoever the container runs as (docker run --user) can write what libraries cache.
FROM cuda-packages AS cuda
ENV HOME=/tmp MPLBACKEND=Agg
WORKDIR /work
ENTRYPOINT ["mocox"]
CMD ["--help"]

FROM cpu-packages AS cpu
ENV HOME=/tmp MPLBACKEND=Agg
WORKDIR /work
ENTRYPOINT ["mocox"]
CMD ["--help"]

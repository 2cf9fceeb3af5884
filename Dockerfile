# The environment of keypipe, and its library. A workspace, which is a clone, is mounted at /workspace; its own code runs.
#   docker build --tag keypipe .                                          for GPUs: torch with CUDA
#   docker build --tag keypipe:cpu --build-arg TORCH_INDEX=ADDRESS .      the address that PyTorch's site names for CPU
ARG PYTHON=3.13
FROM python:${PYTHON}-slim-bookworm

# git keeps snapshots and commits results, ssh reaches its remotes. Wheels bring every other library.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1
WORKDIR /opt/keypipe
COPY requirements.lock ./
COPY tools/install.py tools/
RUN TORCH_INDEX="$TORCH_INDEX" INSTALLER=pip python tools/install.py /opt/venv requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY keypipe keypipe
RUN /opt/venv/bin/python -m pip install --no-deps --no-build-isolation . && rm -rf build

# The number of the user outside who owns the clone.
ARG UID=1000
RUN useradd --create-home --uid "$UID" keypipe && git config --system --add safe.directory /workspace
USER $UID
# The workspace's code comes before the library that is installed here.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/workspace DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /workspace
CMD ["keypipe", "--help"]

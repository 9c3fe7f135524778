# otlp-relay as a container: `docker build --tag otlp-relay .`, or `make image`. docs/container.md.
#
# What is in /opt/otlp-relay is what the Debian package has there, from the same script and lock.
# Where no image registry is to be had, both bases can be made here (tests/e2e/bases.py).
ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-slim-bookworm

FROM ${BASE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*.log /var/log/apt

FROM ${RUST} AS rust

FROM base AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3-venv
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV PATH=/usr/local/cargo/bin:$PATH RUSTUP_HOME=/usr/local/rustup PIP_ROOT_USER_ACTION=ignore
# Names that no file has by chance: one that names where it was built fails the build.
WORKDIR /build/otlp-relay-source
# The build backends, as the lock names them.
COPY scripts/requirements.lock scripts/
RUN awk '/^[a-z]/ { on = /^(hatchling|maturin|packaging|pathspec|pluggy|trove-classifiers)==/ } on' \
      scripts/requirements.lock >/tools.lock \
 && python3 -m venv /tools \
 && /tools/bin/pip install --quiet --no-deps --require-hashes --only-binary=:all: -r /tools.lock
# The native pass changes less often than the rest: what was built of it is found again below.
COPY native native
COPY scripts/native_pass.py scripts/
RUN /tools/bin/python scripts/native_pass.py
COPY . .
RUN /tools/bin/python scripts/host_tree.py --destination /build/otlp-relay-tree

FROM base
LABEL org.opencontainers.image.title="otlp-relay" \
      org.opencontainers.image.description="Keeps OTLP spans, logs and metrics on disk before the 200, and delivers them." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/otlp-relay-tree/opt/otlp-relay /opt/otlp-relay
COPY container/relay.toml /etc/otlp-relay/relay.toml
# Whoever it runs as makes a folder of their own in the volume, with mode 0700.
RUN mkdir /var/lib/otlp-relay && chmod 1777 /var/lib/otlp-relay
ENV PATH=/opt/otlp-relay/bin:$PATH HOME=/var/lib/otlp-relay PYTHONUNBUFFERED=1
VOLUME /var/lib/otlp-relay
USER 10001:10001
EXPOSE 4318 4381
STOPSIGNAL SIGTERM
# Whether a span could be kept now, asked of the admin listener, which is always on loopback.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python3", "-IS", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 4380, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["otlp-relay"]
CMD ["serve"]

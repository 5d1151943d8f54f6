# One image for all roles: worker, orders, email, and the steps of a deployment (topics apply, schemas register).
# Built by `./dev image`, which says version and revision. The base is pinned by digest where you need builds to be
# repeatable: --build-arg BASE=docker.io/library/python@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS build
# Of the same series as ./dev uses. In an environment of its own: nothing of it gets into the image.
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"
# The way of a record is compiled, which makes a worker about twice as fast; the compiler stays in this stage.
# --build-arg COMPILED=0 builds without it.
ARG COMPILED=1
# hadolint ignore=DL3008
RUN [ "${COMPILED}" = 0 ] \
    || { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; }
ENV UV_PYTHON_DOWNLOADS=never \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/rejoinder
WORKDIR /src
# The dependencies first: their layer is kept until the lock changes. All of them are wheels (--no-build), with the
# digests of the lock.
COPY pyproject.toml uv.lock ./
RUN /opt/uv/bin/uv sync --frozen --no-default-groups --extra otel --extra postgresql --no-build --no-install-project
COPY LICENSE README.md hatch_build.py ./
COPY topology topology
COPY schemas schemas
COPY streams streams
RUN HATCH_BUILD_HOOKS_ENABLE="${COMPILED}" \
        /opt/uv/bin/uv sync --frozen --no-default-groups --extra otel --extra postgresql --no-editable \
    && mkdir /opt/rejoinder/share \
    && /opt/uv/bin/uv export --quiet --frozen --no-default-groups --extra otel --extra postgresql \
        --preview-features sbom-export --format cyclonedx1.5 --output-file /opt/rejoinder/share/rejoinder.cdx.json
# A label can't be read from a file, so it is an argument; one that says another version than the code isn't built.
ARG VERSION=unreleased
RUN [ "${VERSION}" = unreleased ] || [ "${VERSION}" = "$(/opt/rejoinder/bin/rejoinder --version)" ]

FROM ${BASE}
# A user with a name, because `rejoinder send` says who sent; its number stands in Kubernetes' runAsUser as well.
RUN groupadd --gid 10001 rejoinder \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/rejoinder --shell /usr/sbin/nologin \
        rejoinder \
    && install --directory --mode=0700 --owner=10001 --group=10001 /var/lib/rejoinder
COPY --from=build /opt/rejoinder /opt/rejoinder
# PYTHONDONTWRITEBYTECODE: the root file system is read-only, and the bytecode is there.
# REJOINDER_WEB_BIND: a container's loopback is reached by no probe; who reaches the port is the network's to say.
ENV PATH=/opt/rejoinder/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REJOINDER_STATE_DIR=/var/lib/rejoinder \
    REJOINDER_LOG_FORMAT=json \
    REJOINDER_WEB_BIND=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/rejoinder
# All that is written; the rest may be read-only.
VOLUME ["/var/lib/rejoinder"]
EXPOSE 6066
STOPSIGNAL SIGTERM
# Whether a restart would help. Kubernetes asks by HTTP itself, and ignores this.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 CMD ["rejoinder", "health"]
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rejoinder" \
      org.opencontainers.image.description="Exactly one order-confirmation e-mail a command: a process manager on Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["rejoinder"]
CMD ["--help"]

# syntax=docker/dockerfile:1
# One image a program: docker build --target server|client|runner .

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && for role in server client runner; do DESTDIR=/out/$role packaging/install.sh $role; done

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin vogeler
STOPSIGNAL SIGTERM

FROM base AS server
COPY --from=build /out/server/ /
USER vogeler
CMD ["vogeler-server"]

# Inventories its container, which is of use to try things out. A real node's agent runs on the node.
FROM base AS client
RUN apt-get update \
    && apt-get install -y --no-install-recommends iproute2 procps \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/client/ /
RUN chown vogeler /var/lib/vogeler
VOLUME /var/lib/vogeler
USER vogeler
CMD ["vogeler-client"]

FROM base AS runner
COPY --from=build /out/runner/ /
USER vogeler
ENTRYPOINT ["vogeler-runner"]

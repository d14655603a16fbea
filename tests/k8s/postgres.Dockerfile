# Stands in for the official image where no registry can be reached: Debian's PostgreSQL 15, the same user, variables
# and folders as far as k8s/ and mlflow/compose.postgres.yaml need them.
FROM docker.io/library/python:3.11-slim
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN groupadd --system --gid 999 postgres \
    && useradd --system --gid postgres --uid 999 --home-dir /var/lib/postgresql postgres \
    && apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15 \
    && install -d -m 0700 -o postgres -g postgres /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
COPY --chmod=755 postgres_entrypoint.sh /usr/local/bin/docker-entrypoint.sh
USER 999:999
# as the official image: end at once, without waiting for clients
STOPSIGNAL SIGINT
CMD ["docker-entrypoint.sh"]

#!/bin/bash
# Sets up $PGDATA for POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB at the first start, then serves. Its socket is in /tmp: podman lays a
# tmpfs of root's over /run in a read-only container.
set -euo pipefail
if [[ ! -s $PGDATA/PG_VERSION ]]; then
  # shellcheck disable=SC2086
  initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") \
    --auth=scram-sha-256 --encoding=UTF8 ${POSTGRES_INITDB_ARGS:-} >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  export PGPASSWORD=$POSTGRES_PASSWORD
  pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses= -k /tmp" --wait start >/dev/null
  createdb --host=/tmp --username="$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop >/dev/null
fi
exec postgres -D "$PGDATA" -k /tmp -c listen_addresses='*'

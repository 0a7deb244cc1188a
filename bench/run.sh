#!/usr/bin/env bash
# Everything of bench/RESULTS.md, one after the other: bench/run.sh PROGRAMS OUT
#
# PROGRAMS is the folder of the release build, OUT gets a table, a JSON and an SVG each. `make bench` calls it, with a broker
# as RabbitMQ ships it and the CouchDB of VOGELER_TEST_COUCHDB_URL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 2 ] || { echo "usage: bench/run.sh PROGRAMS OUT" >&2; exit 64; }
programs=$1 out=$2
: "${VOGELER_TEST_AMQP_URL:?make bench starts a broker and sets it}" "${VOGELER_TEST_MANAGEMENT_URL:?}" "${VOGELER_TEST_COUCHDB_URL:?}"
mkdir -p "$out"

# A secret in an environment is no secret on a command line.
export VOGELER_BROKER_URL=${VOGELER_TEST_AMQP_URL%/}/blowout VOGELER_STORE_URL=$VOGELER_TEST_COUCHDB_URL

# A virtual host for each, so that none has what another left in memory.
fresh() {
    local at=${VOGELER_TEST_MANAGEMENT_URL%/}/api/vhosts/blowout
    printf 'url = "%s"\n' "$at" | curl -sS -o /dev/null -X DELETE -K -
    printf 'url = "%s"\n' "$at" | curl -sSf -X PUT -K -
}

measure() {
    local name=$1
    shift
    printf '\n== %s: vogeler-blowout %s\n' "$name" "$*"
    fresh
    "$programs/vogeler-blowout" "$@" | tee "$out/$name.txt"
}

measure programs programs --dir "$programs" --plugins plugins
measure ingest-2k ingest --payload 2k -n 20000 --updates 2
measure ingest-60k ingest --payload 60k -n 3000 --updates 0
measure fleet -n 10000 --payload 2k --svg "$out/fleet.svg"
measure fleet-transient -n 10000 --payload 2k --transient --no-limits
measure mixed -n 1000 --runners 4 --commands 2 --churn 5 --failures 2 --svg "$out/mixed.svg"
measure real-connections -n 1000 --payload 2k --real-connections --no-limits
for count in 1 2 4; do
    VOGELER_SERVER_QUEUES=$count measure "servers-$count" ingest --payload 2k -n 10000 --updates 1 --servers "$count"
done
measure scale scale --payload 2k --no-limits --svg "$out/scale.svg"

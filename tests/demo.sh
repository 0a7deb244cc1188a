#!/usr/bin/env bash
# Shows the whole of Vogeler on one machine, and puts everything under .demo/: a RabbitMQ and a
# CouchDB of its own (tests/services.sh), the programs as `make install` installs them, a server and
# three clients with different node names; then runs a command and asks the database about it.
#
# `up` may be run again and again: what runs is kept or started anew. When a step fails it shows the
# end of the logs and stops everything.
set -euo pipefail

usage() {
    cat <<'EOT'
usage: tests/demo.sh up|down          (make demo, make demo-down)

VOGELER_DEMO_COUCHDB_URL   use this CouchDB (http://login:password@host:port), in the database vogeler_demo;
                           otherwise a container of CouchDB where a Docker engine runs, else pouchdb-server
BINDIR                     where the built programs are; otherwise cargo builds them
EOT
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=$top/.demo
run=$demo/run
nodes=(web01.example.com db01.example.com app01.example.com)
database=vogeler_demo
package=bash # which this script runs in, so some package manager will know it
container_file=$demo/couchdb.container

# Nothing of the caller's configuration of Vogeler shall leak into the demo's.
given_couchdb=${VOGELER_DEMO_COUCHDB_URL:-}
unset "${!VOGELER_@}"
export VOGELER_SERVICES_CACHE=$demo/cache

services() { "$top/tests/services.sh" "$@"; }
step() { printf '\n==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
indented() { sed -u 's/^/    /'; }
short() { printf %s "${1#"$PWD/"}"; } # a path as one would type it here

# give_up WHAT: shows how each log ends, and leaves; the trap stops what runs.
give_up() {
    local log
    printf '\ndemo: %s\n' "$1" >&2
    for log in "$run"/log/{server,"${nodes[0]}","${nodes[1]}","${nodes[2]}"}.log; do
        if [ -s "$log" ]; then printf '\nThe end of %s:\n' "$log" >&2 && tail -n 12 "$log" >&2; fi
    done
    exit 1
}

# ---- the database -------------------------------------------------------------------------

# Sets VOGELER_TEST_COUCHDB_URL, where tests/services.sh is to start no stand-in.
choose_couchdb() {
    if [ -n "$given_couchdb" ]; then
        note "the CouchDB of VOGELER_DEMO_COUCHDB_URL, database $database"
        export VOGELER_TEST_COUCHDB_URL=$given_couchdb
    elif docker_runs && start_container; then
        note "CouchDB 3.5 in a container"
    else
        note "pouchdb-server, which stands in for CouchDB where no Docker engine can run it"
    fi
}

docker_runs() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

start_container() {
    local password id port
    stop_container
    note "fetching the image couchdb:3.5"
    timeout 300 docker pull -q couchdb:3.5 >/dev/null || { note "which cannot be had"; return 1; }
    password=$(openssl rand -hex 16)
    (umask 077 && printf 'COUCHDB_USER=admin\nCOUCHDB_PASSWORD=%s\n' "$password" >"$demo/couchdb.env")
    # With single_node it makes its own system databases.
    id=$(docker run --detach --rm --env-file "$demo/couchdb.env" --publish 127.0.0.1::5984 --entrypoint tini couchdb:3.5 \
        -- bash -c 'printf "[couchdb]\nsingle_node = true\n" >/opt/couchdb/etc/local.d/10-single-node.ini && exec docker-entrypoint.sh couchdb') || return 1
    echo "$id" >"$container_file"
    port=$(docker port "$id" 5984/tcp | sed -n '1s/.*://p')
    export VOGELER_TEST_COUCHDB_URL=http://admin:$password@127.0.0.1:$port
    within 60 fetch "$VOGELER_TEST_COUCHDB_URL/_up" && return 0
    note "CouchDB did not answer in its container; the end of its log:"
    docker logs --tail 12 "$id" 2>&1 | indented
    stop_container
    unset VOGELER_TEST_COUCHDB_URL
    return 1
}

stop_container() {
    [ -e "$container_file" ] || return 0
    docker rm --force "$(cat "$container_file")" >/dev/null 2>&1 || true
    rm -f "$container_file" "$demo/couchdb.env"
}

# fetch URL [CURL-OPTION…]: the URL, which may hold a password, does not appear in the process list.
fetch() {
    local url=$1
    shift
    printf 'url = "%s"\n' "$url" | curl -sS --fail --noproxy localhost,127.0.0.1 --max-time 20 -K - "$@"
}

# within SECONDS COMMAND…: until it succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.5
    done
}

# ---- configuration ------------------------------------------------------------------------

# section NAME URL PASSWORD-FILE: a section of vogeler.yaml, the password in a file apart.
section() {
    local rest=${2#*://} login=''
    case $rest in *@*) login=${rest%@*} ;; esac
    printf '%s:\n  url: "%s"\n' "$1" "${2%%://*}://${rest##*@}"
    [ -n "$login" ] || return 0
    (umask 077 && decoded "${login#*:}" >"$3")
    printf '  username: "%s"\n  password_file: "%s"\n' "$(decoded "${login%%:*}")" "$3"
}

# decoded TEXT: without the %-escapes of a URL.
decoded() { printf '%b\n' "${1//%/\\x}"; }

write_configuration() {
    local node
    mkdir -p "$demo/etc"
    {
        section broker "$VOGELER_TEST_AMQP_URL" "$demo/etc/broker.password"
        section store "$VOGELER_TEST_COUCHDB_URL" "$demo/etc/store.password"
        printf '  database: %s\n' "$database"
        printf 'server:\n  design_docs: "%s"\n' "$demo/root/usr/share/vogeler/design-docs"
    } >"$demo/etc/vogeler.yaml"
    for node in "${nodes[@]}"; do
        mkdir -p "$demo/state/$node"
        {
            section broker "$VOGELER_TEST_AMQP_URL" "$demo/etc/broker.password"
            printf 'client:\n  node_name: %s\n  state_dir: "%s"\n' "$node" "$demo/state/$node"
            printf '  plugin_dir: "%s"\n' "$demo/root/etc/vogeler/plugins.d"
            printf '  program_dir: "%s"\n' "$demo/root/usr/lib/vogeler/plugins"
        } >"$demo/etc/$node.yaml"
    done
}

# ---- up -----------------------------------------------------------------------------------

bin() { echo "$demo/root/usr/bin/vogeler-$1"; }
runner() { "$(bin runner)" --config "$demo/etc/vogeler.yaml" "$@"; }
all_nodes() { (IFS=, && echo "${nodes[*]}"); }

up() {
    mkdir -p "$demo"
    trap 'stop_after_failure' EXIT
    trap 'exit 130' INT TERM HUP

    if services status "$run" >/dev/null; then
        step "1/6  RabbitMQ and the database run already"
    else
        step "1/6  RabbitMQ and a database, private to the demo"
        choose_couchdb
        services install services
        services start "$run"
    fi
    # shellcheck source=/dev/null
    . "$run/env"

    step "2/6  The programs, installed under .demo/root"
    if [ -z "${BINDIR:-}" ]; then
        note "cargo build --release (some minutes the first time)"
        (cd "$top" && cargo build --release --locked)
        BINDIR=${CARGO_TARGET_DIR:-$top/target}/release
    fi
    stop_programs
    env -u PREFIX -u SYSCONFDIR -u UNITDIR BINDIR="$BINDIR" DESTDIR="$demo/root" "$top/packaging/install.sh" all >/dev/null
    write_configuration

    step "3/6  vogeler-server setup: exchanges, queues, database, design documents"
    "$(bin server)" setup --config "$demo/etc/vogeler.yaml" 2>&1 | indented || give_up "vogeler-server setup failed"

    step "4/6  A server and three clients: ${nodes[*]}"
    start_programs
    within 60 runner -c ping -n "$(all_nodes)" --timeout 10s || {
        runner -c ping -n "$(all_nodes)" --timeout 10s 2>&1 | indented || true
        give_up "not every node answered vogeler-runner -c ping within 60 s"
    }
    note "all three answer"

    step "5/6  vogeler-runner -c packages -n all"
    runner -c packages -n all 2>&1 | indented || give_up "vogeler-runner -c packages -n all failed"

    step "6/6  Which nodes have the package $package?"
    ask

    trap - EXIT INT TERM HUP
    closing
}

stop_programs() {
    local node
    for node in "${nodes[@]}"; do services stop "$run" "$node"; done
    services stop "$run" server
}

start_programs() {
    local node
    rm -f "$run"/log/{server,*.example.com}.log
    services spawn "$run" server "$(bin server)" run --config "$demo/etc/vogeler.yaml"
    for node in "${nodes[@]}"; do services spawn "$run" "$node" "$(bin client)" run --config "$demo/etc/$node.yaml"; done
}

# The view by_name has a row a node and version: {"id": node, "key": [package, version]}.
ask() {
    local view=$database/_design/packages/_view/by_name query rows
    query="reduce=false&startkey=%5B%22$package%22%5D&endkey=%5B%22$package%22%2C%7B%7D%5D"
    note "GET /$view?reduce=false&startkey=[\"$package\"]&endkey=[\"$package\",{}]"
    rows=$(fetch "$VOGELER_TEST_COUCHDB_URL/$view?$query" | grep -oE '\{[^{}]*\}' | sed -E \
        's/.*"id": *"([^"]*)".*"key": *\[[^,]*, *"([^"]*)"\].*/\1 \2/; s/.*"key": *\[[^,]*, *"([^"]*)"\].*"id": *"([^"]*)".*/\2 \1/') || true
    [ -n "$rows" ] || give_up "the database does not know of any node with the package $package"
    awk '{printf "      %-24s %s\n", $1, $2}' <<<"$rows"
}

closing() {
    local address=${VOGELER_TEST_COUCHDB_URL##*@} scheme=${VOGELER_TEST_COUCHDB_URL%%://*}
    cat <<EOT

It all runs. Try:
  $(short "$demo")/root/usr/bin/vogeler-runner --config $(short "$demo")/etc/vogeler.yaml -c facts -n 'web*'

Look at the records in a browser, with Fauxton:
  $scheme://${address#*://}/_utils/#database/$database/_all_docs
EOT
    if [ -e "$demo/etc/store.password" ]; then
        printf '  login: %s, password: in %s\n' "$(sed -n '/^store:/,/^[a-z]/s/^  username: "\(.*\)"/\1/p' "$demo/etc/vogeler.yaml")" "$(short "$demo/etc/store.password")"
    fi
    printf '\nLogs: %s. To stop it all: make demo-down\n' "$(short "$run/log")"
}

# ---- down ---------------------------------------------------------------------------------

stop_after_failure() {
    local outcome=$?
    printf '\ndemo: stopping what was started\n' >&2
    down
    exit "$outcome"
}

down() {
    services stop "$run"
    stop_container
    rm -rf "${demo:?}/etc" "${demo:?}/root"
}

case ${1:-} in
    up) up ;;
    down)
        down
        echo "The demo is stopped. Logs are in $(short "$run/log"); .demo may be removed."
        if [ -n "$given_couchdb" ]; then echo "The database $database stays in the CouchDB that was given."; fi
        ;;
    *) usage >&2; exit 64 ;;
esac

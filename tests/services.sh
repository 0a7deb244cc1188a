#!/usr/bin/env bash
# A private RabbitMQ and a CouchDB (or its stand-in, pouchdb-server) for tests and the demo: on free
# ports of 127.0.0.1, all files in one directory, no system service touched, nothing left behind.
#
# A process is ended by its id, after /proc has confirmed that it is still the one started here: every
# start draws a mark that its processes carry in their environment.
#
# A broker that was started alone can be halted, or killed, and resumed with its data. Stopped, it is gone.
#
# Deliberately absent: a way to keep data from one start to the next. Linux only, for /proc. A bare
# "return" too: in a trap it returns what went before the trap, and stopping is done there.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: tests/services.sh COMMAND

  install [services]      get what is missing: RabbitMQ, a CouchDB, and (unless "services" is said)
                          the tools that tests use
  start DIR [broker]      start both under DIR, or the broker alone, and write their addresses to DIR/env,
                          to be sourced
  stop DIR [NAME]         stop what runs under DIR, or only the process NAME
  status DIR              what runs under DIR; exit status 1 when something does not
  with DIR COMMAND…       start, run COMMAND with DIR/env, stop whatever happened, exit as COMMAND did
  spawn DIR NAME COMMAND… run COMMAND in the background as one more process of DIR
  ctl DIR ARGUMENT…       rabbitmqctl for the broker of DIR

Of a broker that was started alone, and keeps its data and its ports meanwhile:
  halt DIR                stop it
  kill DIR                end it with no warning, its helpers included
  resume DIR              start it again

VOGELER_TEST_COUCHDB_URL   use this CouchDB (http://login:password@host:port) and start none
VOGELER_SERVICES_CACHE     where downloads are kept (target/services)
VOGELER_SERVICES_AS_SHIPPED  yes: a broker with its own defaults, to be measured; tests want one that tells figures sooner
EOF
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${VOGELER_SERVICES_CACHE:-$top/target/services}
pouchdb_version=4.2.0
start_seconds=120 # RabbitMQ takes 5 s on an idle machine
least_disk_mb=50  # RabbitMQ's own default
stop_seconds=20   # and 6 s to stop

say() { printf 'services: %s\n' "$*"; }
warn() { say "$@" >&2; }
die() { warn "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The addresses of a start of ours must not pass for a CouchDB that the caller brings along.
if [ -n "${VOGELER_TEST_COUCHDB_PRIVATE:-}" ]; then unset VOGELER_TEST_COUCHDB_URL; fi
given_couchdb=${VOGELER_TEST_COUCHDB_URL:-}

# ---- what there is ------------------------------------------------------------------------

# Where RabbitMQ's own scripts are. Not /usr/sbin: what is there switches user and refuses others.
rabbitmq_bin() {
    local bin
    for bin in /usr/lib/rabbitmq/bin "$cache/rabbitmq/usr/lib/rabbitmq/bin"; do
        if [ -x "$bin/rabbitmq-server" ]; then echo "$bin"; return 0; fi
    done
    return 1
}

pouchdb_bin() {
    local bin=$cache/pouchdb/node_modules/pouchdb-server/bin/pouchdb-server
    if [ -f "$bin" ]; then echo "$bin"; else command -v pouchdb-server; fi
}

have_couchdb() { [ -n "$given_couchdb" ] || { pouchdb_bin >/dev/null && have node; }; }

# Prints the Debian packages of what is missing and of use to $1: services, or tests (which need both).
missing_packages() {
    rabbitmq_bin >/dev/null || echo rabbitmq-server
    have openssl || echo openssl
    have curl || echo curl
    have_couchdb || have npm || echo npm
    [ "$1" = tests ] || return 0
    have amqp-publish || echo amqp-tools
    have rpmbuild || echo rpm
    have facter || echo facter
    have faketime || echo faketime
    /usr/bin/python3 -c 'import pika' 2>/dev/null || echo python3-pika # Debian's, whatever PATH says
}

# ---- install ------------------------------------------------------------------------------

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n -- "$@"; fi; }
can_be_root() { [ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }

# logged FILE COMMAND…: its output goes to FILE, the end of it to the screen where it fails.
logged() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    "$@" >"$file" 2>&1 </dev/null && return 0
    warn "failed: $*; the end of $file:"
    tail -n 15 "$file" >&2
    return 1
}

policy=/usr/sbin/policy-rc.d
policy_saved=$policy.saved-by-vogeler
policy_mark='# Put here by tests/services.sh of Vogeler for the time of one apt-get.'

restore_policy() {
    if grep -qsxF "$policy_mark" "$policy"; then as_root rm -f "$policy"; fi
    if [ -e "$policy_saved" ] || [ -L "$policy_saved" ]; then as_root mv -f "$policy_saved" "$policy"; fi
}

# Runs a command while packages may start no service (exit status 101 of policy-rc.d forbids it).
services_held_off() (
    restore_policy || exit 1 # what a run that was killed has left
    trap restore_policy EXIT
    trap 'exit 130' INT TERM HUP
    if [ -e "$policy" ] || [ -L "$policy" ]; then as_root mv "$policy" "$policy_saved" || exit 1; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | as_root tee "$policy" >/dev/null || exit 1
    as_root chmod 755 "$policy" || exit 1
    "$@"
)

apt_install() {
    say "installing with apt: $*"
    logged "$cache/apt-install.log" services_held_off as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"
}

apt_install_missing() {
    local package
    # A source that does not answer must not cost what the others have; the install will tell.
    logged "$cache/apt-update.log" as_root apt-get update || true
    apt_install "$@" || for package in "$@"; do apt_install "$package" || true; done
    case " $* " in *' rabbitmq-server '*) if rabbitmq_bin >/dev/null; then keep_off_at_boot; fi ;; esac
}

# RabbitMQ came for the tests alone: it shall not run after the next boot either.
keep_off_at_boot() {
    say "RabbitMQ was installed for private use and is not started at boot (update-rc.d rabbitmq-server enable changes that)"
    as_root update-rc.d rabbitmq-server disable >/dev/null 2>&1 || true
    if have systemctl; then as_root systemctl disable epmd.service epmd.socket >/dev/null 2>&1 || true; fi
}

# Without root: the packages of RabbitMQ and Erlang, and the libraries that this machine lacks,
# unpacked under the cache. apt keeps its lists there too.
unpack_rabbitmq() {
    local state=$cache/apt new=$cache/rabbitmq.new options packages
    if ! have apt-get || ! have dpkg; then return 1; fi
    say "no root and no sudo here: unpacking RabbitMQ and Erlang under $cache/rabbitmq"
    rm -rf "$new"
    mkdir -p "$state/state/lists/partial" "$state/cache/archives/partial" "$state/debs" "$new"
    options=(-o "Dir::State=$state/state" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=true
        -o Dir::State::status=/var/lib/dpkg/status)
    logged "$cache/apt-update.log" apt-get "${options[@]}" update || true
    mapfile -t packages < <(
        apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts \
            --no-breaks --no-replaces --no-enhances rabbitmq-server | grep -xE 'rabbitmq-server|erlang-[a-z0-9-]+' | sort -u
        apt-get "${options[@]}" -s install --no-install-recommends rabbitmq-server | awk '$1 == "Inst" && $2 ~ /^lib/ {print $2}'
    )
    (cd "$state/debs" && logged "$cache/apt-download.log" apt-get "${options[@]}" download "${packages[@]}") || return 1
    local deb
    for deb in "$state/debs/"*.deb; do dpkg -x "$deb" "$new" || return 1; done
    write_erl "$new"
    rm -rf "$cache/rabbitmq" "$state"
    mv "$new" "$cache/rabbitmq"
}

# Debian's erl knows only /usr/lib/erlang; this one stands in front of it in PATH and finds its own place.
write_erl() {
    mkdir -p "$1/bin"
    cat >"$1/bin/erl" <<'EOF'
#!/bin/sh
ROOTDIR=$(cd "$(dirname "$0")/../usr/lib/erlang" && pwd)
BINDIR=$(echo "$ROOTDIR"/erts-*/bin)
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" "$@"
EOF
    chmod 755 "$1/bin/erl"
    ln -s ../usr/bin/epmd "$1/bin/epmd"
}

install_pouchdb() {
    local new=$cache/pouchdb.new
    say "installing pouchdb-server $pouchdb_version with npm into $cache/pouchdb"
    rm -rf "$new"
    mkdir -p "$new"
    logged "$cache/npm.log" npm install --prefix "$new" "pouchdb-server@$pouchdb_version" \
        --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error || return 1
    rm -rf "$cache/pouchdb"
    mv "$new" "$cache/pouchdb"
}

install() {
    local for=tests missing
    [ "${1:-}" != services ] || for=services
    mapfile -t missing < <(missing_packages "$for")
    if [ "${#missing[@]}" -gt 0 ] && have apt-get && can_be_root; then apt_install_missing "${missing[@]}"; fi
    rabbitmq_bin >/dev/null || unpack_rabbitmq || true
    if ! have_couchdb && have npm; then install_pouchdb || true; fi
    report_missing "$for"
}

# Says what is still not here and how to get it. Fails where nothing can be started without it.
report_missing() {
    local package fatal='' missing=()
    mapfile -t missing < <(missing_packages "$1")
    for package in "${missing[@]}"; do
        case $package in
            amqp-tools | rpm | facter | faketime | python3-pika) warn "not here: $package; the tests that use it will fail" ;;
            npm) fatal=yes; warn "not here: npm, to get pouchdb-server, the stand-in for CouchDB" ;;
            *) fatal=yes; warn "not here: $package; nothing can be started without it" ;;
        esac
    done
    if [ "${#missing[@]}" -gt 0 ]; then warn "to get what is not here, as root: apt-get install ${missing[*]}"; fi
    if ! have_couchdb; then
        fatal=yes
        warn "not here: a CouchDB, nor pouchdb-server $pouchdb_version, its stand-in from npm"
        warn "instead: VOGELER_TEST_COUCHDB_URL=http://login:password@host:port names a running CouchDB"
    fi
    [ -z "$fatal" ] || exit 1
    say "RabbitMQ and $(couchdb_here) are here"
}

couchdb_here() { if [ -n "$given_couchdb" ]; then echo "the CouchDB given"; else echo "pouchdb-server"; fi; }

# ---- processes ----------------------------------------------------------------------------
# $dir/processes has a line for each process, in the order of their start: name, id, start time.

# When the process started, in the kernel's ticks; fails when there is none, or only its remains.
started_at() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -ra fields <<<"${stat##*) }" # a name may hold spaces and brackets; what follows it does not
    [ "${fields[0]}" != Z ] || return 1
    echo "${fields[19]}"
}

# is_ours ID START: the process still runs, and its id was not given to another one since.
is_ours() { [ "$(started_at "$1" || true)" = "$2" ]; }

# runs NAME
runs() {
    local name pid started
    while read -r name pid started; do
        if [ "$name" = "$1" ]; then is_ours "$pid" "$started" && return 0; fi
    done <"$dir/processes"
    return 1
}

spawn() {
    local name=$1 pid started
    shift
    setsid env -C "$dir" "VOGELER_SERVICES_MARK=$mark" "$@" </dev/null >>"$dir/log/$name.log" 2>&1 9>&- &
    pid=$!
    started=$(started_at "$pid") || die "$name ended at once: $(tail -n 3 "$dir/log/$name.log")"
    echo "$name $pid $started" >>"$dir/processes"
}

# until_true SECONDS COMMAND…
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

is_gone() { ! is_ours "$@"; }

# end NAME ID START: asks it to stop, waits, and kills it where it does not.
end() {
    is_ours "$2" "$3" || return 0
    kill -TERM "$2" || die "cannot stop $1 (pid $2): it belongs to another user, who can"
    until_true "$stop_seconds" is_gone "$2" "$3" && return 0
    warn "$1 (pid $2) did not stop within $stop_seconds s and is killed"
    kill -KILL "$2" 2>/dev/null || true
    until_true 5 is_gone "$2" "$3" || die "$1 (pid $2) cannot be killed"
}

# Whatever carries the mark of this start, or of one that belongs to it, wherever its parents have gone.
marked() { grep -lzxsE "VOGELER_SERVICES_MARK=$mark(/.*)?" /proc/[0-9]*/environ | cut -d/ -f3 || true; }
none_marked() { [ -z "$(marked)" ]; }

# Succeeds once none is left: one that was killed may just have started another.
kill_marked() {
    local pid
    for pid in $(marked); do kill -KILL "$pid" 2>/dev/null || true; done
    none_marked
}

# stop_processes [NAME]: all, the last started first; or one.
stop_processes() {
    local name pid started
    [ -e "$dir/processes" ] || return 0
    while read -r name pid started; do
        if [ -z "${1:-}" ] || [ "$name" = "$1" ]; then end "$name" "$pid" "$started"; fi
    done < <(tac "$dir/processes")
    if [ -n "${1:-}" ]; then
        sed -i "/^$1 /d" "$dir/processes"
    else
        until_true 5 none_marked || kill_stragglers
        rm -f "$dir/processes"
    fi
}

kill_stragglers() {
    local pid
    for pid in $(marked); do
        warn "$(cat "/proc/$pid/comm" 2>/dev/null) (pid $pid) was left behind and is killed"
    done
    until_true 5 kill_marked || die "these processes cannot be killed: $(marked | tr '\n' ' ')"
}

# wait_for NAME WHAT COMMAND…: until COMMAND succeeds, while the process NAME runs.
wait_for() {
    local name=$1 what=$2 deadline=$((SECONDS + start_seconds)) why=
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! runs "$name"; then why="$name ended before $what"; break; fi
        if [ "$SECONDS" -ge "$deadline" ]; then why="waited $start_seconds s for $what"; break; fi
        sleep 0.1
    done
    [ -n "$why" ] || return 0
    warn "$why; the end of its log:"
    tail -n 25 "$dir/log/$name"*.log >&2
    exit 1
}

# ---- start --------------------------------------------------------------------------------

# Prints $1 ports that nothing uses, from below those that the kernel gives to outgoing connections.
free_ports() {
    local port chosen=' ' count=$1
    while [ "$count" -gt 0 ]; do
        port=$((20000 + RANDOM % 12000))
        case $chosen in *" $port "*) continue ;; esac
        if grep -qs "$(printf ':%04X ' "$port")" /proc/net/tcp /proc/net/tcp6; then continue; fi
        chosen="$chosen$port "
        count=$((count - 1))
        echo "$port"
    done
}

listens() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }

# fetch URL [CURL-OPTION…]: the URL, which holds a password, does not appear in the process list.
fetch() {
    local url=$1
    shift
    printf 'url = "%s"\n' "$url" | curl -sS --fail --noproxy localhost,127.0.0.1 --max-time 5 -K - "$@"
}

# write_tls: an authority of our own, and a certificate of it for localhost.
write_tls() {
    cat >"$dir/tls/openssl.cnf" <<'EOF'
[req]
distinguished_name = name
prompt = no
[name]
CN = Vogeler test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EOF
    (
        cd "$dir/tls"
        export OPENSSL_CONF=openssl.cnf
        new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
        openssl req -x509 "${new_key[@]}" -keyout ca-key.pem -subj '/CN=Vogeler test authority' -extensions authority -days 30 -out ca.pem
        openssl req "${new_key[@]}" -keyout server-key.pem -subj /CN=localhost -out server.csr
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -extfile openssl.cnf \
            -extensions server -days 30 -out server.pem
        rm server.csr ca.srl
    ) >"$dir/log/openssl.log" 2>&1 || die "openssl could not make the test certificates: $(tail -n 3 "$dir/log/openssl.log")"
}

# Lets the broker of $1 tell figures of its management API that are a second old, where it would say what was five seconds ago. That
# costs it a good deal when there are thousands of queues.
tell_figures_at_once() {
    echo 'collect_statistics_interval = 500' >>"$1/rabbitmq.conf"
    cat >"$1/advanced.config" <<'EOF'
[{rabbit, [{quorum_tick_interval, 500}]},
 {rabbitmq_management_agent, [{sample_retention_policies, [{global, [{605, 1}]}, {basic, [{605, 1}]}, {detailed, [{605, 1}]}]}]}].
EOF
}

write_rabbitmq_config() {
    local at=$dir/rabbitmq
    mkdir -p "$at/home" "$at/conf.d"
    new_password >"$at/home/.erlang.cookie"
    chmod 400 "$at/home/.erlang.cookie"
    : >"$at/env.conf"
    echo '[rabbitmq_management].' >"$at/enabled_plugins"
    cat >"$at/rabbitmq.conf" <<EOF
listeners.tcp.1 = 127.0.0.1:$amqp_port
listeners.ssl.1 = 127.0.0.1:$amqps_port
ssl_options.cacertfile = $dir/tls/ca.pem
ssl_options.certfile = $dir/tls/server.pem
ssl_options.keyfile = $dir/tls/server-key.pem
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
load_definitions = $at/definitions.json
loopback_users = none
disk_free_limit.absolute = ${least_disk_mb}MB
log.console = false
log.file = $dir/log/rabbitmq-node.log
log.file.level = info
EOF
    if [ -z "${VOGELER_SERVICES_AS_SHIPPED:-}" ]; then tell_figures_at_once "$at"; else echo '[].' >"$at/advanced.config"; fi
    cat >"$at/definitions.json" <<EOF
{
  "users": [{"name": "admin", "password": "$password", "tags": "administrator"}],
  "vhosts": [{"name": "/"}],
  "permissions": [{"user": "admin", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]
}
EOF
}

# write_run: $dir/rabbitmq/run COMMAND… runs a command with the environment of this broker and nothing of the caller's.
write_run() {
    local at=$dir/rabbitmq path=$PATH libraries=() environment
    case $(rabbitmq_bin) in
        "$cache"/*)
            path=$cache/rabbitmq/bin:$PATH
            libraries=("$cache/rabbitmq/lib"/*-linux-gnu "$cache/rabbitmq/usr/lib"/*-linux-gnu)
            ;;
    esac
    environment=("PATH=$path" "LD_LIBRARY_PATH=$(IFS=: && echo "${libraries[*]}")" LANG=C.UTF-8 "HOME=$at/home"
        "VOGELER_SERVICES_MARK=$mark" "ERL_EPMD_PORT=$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
        "ERL_CRASH_DUMP=$dir/log/erl_crash.dump"
        RABBITMQ_NODENAME=vogeler@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
        "RABBITMQ_NODE_PORT=$amqp_port" "RABBITMQ_DIST_PORT=$dist_port" "RABBITMQ_PID_FILE=$at/pid"
        "RABBITMQ_MNESIA_BASE=$at/mnesia" "RABBITMQ_LOG_BASE=$at/log" "RABBITMQ_GENERATED_CONFIG_DIR=$at/generated"
        "RABBITMQ_CONF_ENV_FILE=$at/env.conf" "RABBITMQ_CONFIG_FILE=$at/rabbitmq.conf"
        "RABBITMQ_CONFIG_FILES=$at/conf.d" "RABBITMQ_ADVANCED_CONFIG_FILE=$at/advanced.config"
        "RABBITMQ_ENABLED_PLUGINS_FILE=$at/enabled_plugins"
        'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}')
    {
        echo '#!/bin/bash'
        printf 'exec env -i'
        printf ' %q' "${environment[@]}"
        echo ' "$@"'
    } >"$at/run"
    chmod 700 "$at/run"
}

start_rabbitmq() {
    local amqp_port amqps_port management_port dist_port epmd_port password
    rabbitmq_bin >/dev/null || die "RabbitMQ is not here; tests/services.sh install gets it"
    { read -r amqp_port; read -r amqps_port; read -r management_port; read -r dist_port; read -r epmd_port; } < <(free_ports 5)
    password=$(new_password)
    write_tls
    write_rabbitmq_config
    write_run
    run_rabbitmq "http://admin:$password@127.0.0.1:$management_port"
    {
        put VOGELER_TEST_AMQP_URL "amqp://admin:$password@127.0.0.1:$amqp_port"
        put VOGELER_TEST_AMQPS_URL "amqps://admin:$password@localhost:$amqps_port"
        put VOGELER_TEST_MANAGEMENT_URL "http://admin:$password@127.0.0.1:$management_port"
    } >>"$dir/env.new"
}

# How often this broker has come up.
startups() { grep -cs 'Server startup complete' "$dir/log/rabbitmq-node.log" || true; }
is_up_after() { [ "$(startups)" -gt "$1" ]; }

# run_rabbitmq MANAGEMENT_URL: with the configuration, and the data, that are there.
run_rabbitmq() {
    local port before
    port=$("$dir/rabbitmq/run" printenv ERL_EPMD_PORT)
    before=$(startups)
    # In the foreground of its own: an epmd that the node starts would outlive it.
    spawn epmd "$dir/rabbitmq/run" epmd -address 127.0.0.1 -port "$port"
    wait_for epmd "port $port was open" listens "$port"
    spawn rabbitmq "$dir/rabbitmq/run" "$(rabbitmq_bin)/rabbitmq-server"
    wait_for rabbitmq "it had started" is_up_after "${before:-0}"
    wait_for rabbitmq "its management answered" fetch "$1/api/overview"
}

start_couchdb() {
    local port password
    if [ -n "$given_couchdb" ]; then
        fetch "$given_couchdb/" >/dev/null || die "the CouchDB of VOGELER_TEST_COUCHDB_URL does not answer: $(hide_password "$given_couchdb")"
        put VOGELER_TEST_COUCHDB_URL "$given_couchdb" >>"$dir/env.new"
        return 0
    fi
    pouchdb_bin >/dev/null || die "no CouchDB and no pouchdb-server here; tests/services.sh install gets the latter"
    port=$(free_ports 1)
    password=$(new_password)
    mkdir -p "$dir/couchdb"
    cat >"$dir/couchdb/config.json" <<EOF
{"admins": {"admin": "$password"}, "log": {"file": "$dir/log/pouchdb-requests.log", "level": "warning"}}
EOF
    spawn pouchdb env -C "$dir/couchdb" "HOME=$dir/couchdb" node --unhandled-rejections=warn \
        "$(pouchdb_bin)" -o 127.0.0.1 -p "$port" -m -n -c config.json
    # With a login, since a wrong one is refused: the password is in force.
    wait_for pouchdb "its login worked" fetch "http://admin:$password@127.0.0.1:$port/_all_dbs"
    {
        put VOGELER_TEST_COUCHDB_URL "http://admin:$password@127.0.0.1:$port"
        put VOGELER_TEST_COUCHDB_PRIVATE yes
    } >>"$dir/env.new"
}

new_password() { openssl rand -hex 16; }
hide_password() { sed -E 's,//[^/@]*@,//***@,' <<<"$1"; }

# put NAME VALUE: a line for a shell to source.
put() { printf "export %s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

# start [broker]
start() {
    local couchdb=yes
    case ${1:-} in '') ;; broker) couchdb= ;; *) usage >&2; exit 64 ;; esac
    if [ -e "$dir/env" ] && all_run; then
        say "already running under $dir"
        return 0
    fi
    case $dir in *[!A-Za-z0-9_./\ @+-]*) die "RabbitMQ does not start under a path like $dir; use letters, digits and . _ - in it" ;; esac
    refuse_foreign_directory
    stop
    rm -rf "${dir:?}"
    mkdir -p "$(dirname "$dir")"
    refuse_full_disk
    umask 077
    mkdir -p "$dir/log" "$dir/tls"
    mark=$(cat /proc/sys/kernel/random/uuid)
    # What a test starts for itself belongs to the services that it runs against, and ends with them
    # where the test does not live to stop it.
    if [ -z "$couchdb" ] && [ -s "${VOGELER_TEST_SERVICES:-}/mark" ]; then mark=$(cat "$VOGELER_TEST_SERVICES/mark")/$mark; fi
    echo "$mark" >"$dir/mark"
    : >"$dir/processes"
    trap stop EXIT
    trap 'exit 130' INT TERM HUP
    say "starting RabbitMQ${couchdb:+ and $(couchdb_here)} under $dir"
    [ -z "$couchdb" ] || start_couchdb
    start_rabbitmq
    put VOGELER_TEST_TLS_DIR "$dir/tls" >>"$dir/env.new"
    put VOGELER_TEST_SERVICES "$dir" >>"$dir/env.new"
    mv "$dir/env.new" "$dir/env"
    trap - EXIT INT TERM HUP
    describe
    put VOGELER_TEST_VERSIONS "RabbitMQ $(rabbitmq_version)${couchdb:+ and $(couchdb_version)}" >>"$dir/env"
}

# A broker that comes under its limit takes no message any more, and says so to nobody who waits for one.
refuse_full_disk() {
    local free
    free=$(df --output=avail -k "$(dirname "$dir")" | tail -n 1)
    [ "$((free / 1024))" -ge $((least_disk_mb * 4)) ] ||
        die "only $((free / 1024)) MB are free under $dir, and RabbitMQ stops taking messages at $least_disk_mb MB; make room (target/debug grows with each change)"
}

# Only a directory that an earlier start has made, or an empty one, is ever cleared.
refuse_foreign_directory() {
    if [ -e "$dir/mark" ] || [ -z "$(ls -A "$dir" 2>/dev/null)" ]; then return 0; fi
    die "$dir holds files that tests/services.sh did not put there; name an empty or a new directory"
}

# Stops everything, or the process $1. The logs stay; addresses, passwords and data go.
stop() {
    [ -e "$dir/mark" ] || return 0
    stop_processes "$@"
    [ -n "${1:-}" ] || rm -rf "$dir/env" "$dir/env.new" "$dir/tls" "$dir/rabbitmq" "$dir/couchdb"
}

all_run() {
    local name pid started
    [ -s "$dir/processes" ] || return 1
    while read -r name pid started; do is_ours "$pid" "$started" || return 1; done <"$dir/processes"
}

status() {
    local name pid started
    if ! [ -e "$dir/env" ]; then
        say "nothing runs under $dir"
        return 1
    fi
    describe
    while read -r name pid started; do
        if is_ours "$pid" "$started"; then say "  $name runs, pid $pid"; else say "  $name has ended"; fi
    done <"$dir/processes"
    all_run
}

# What they are, with versions, and where: what a test run was made against.
describe() {
    local couchdb=
    # shellcheck source=/dev/null
    . "$dir/env"
    is_broker_alone || couchdb=", $(couchdb_version) at $(hide_password "$VOGELER_TEST_COUCHDB_URL")"
    say "RabbitMQ $(rabbitmq_version) at $(hide_password "$VOGELER_TEST_AMQP_URL")$couchdb"
}

# Its database is the caller's, whose address is none of ours.
is_broker_alone() { ! grep -q '^export VOGELER_TEST_COUCHDB_URL=' "$dir/env"; }

rabbitmq_version() {
    fetch "$VOGELER_TEST_MANAGEMENT_URL/api/overview" 2>/dev/null | grep -oE '"rabbitmq_version":"[^"]*"' | cut -d'"' -f4 || echo '(does not answer)'
}

couchdb_version() {
    local welcome version=
    welcome=$(fetch "$VOGELER_TEST_COUCHDB_URL/" 2>/dev/null) || { echo 'CouchDB (does not answer)'; return 0; }
    if [[ $welcome =~ \"version\":\"([^\"]*)\" ]]; then version=${BASH_REMATCH[1]}; fi
    case $welcome in
        *pouchdb*) echo "PouchDB Server $version (a stand-in for CouchDB)" ;;
        *) echo "CouchDB $version" ;;
    esac
}

# ---- halt, kill, resume -------------------------------------------------------------------

of_broker_alone() { is_broker_alone || die "$dir has a database too, which keeps nothing; start DIR broker makes what can be resumed"; }

halt() {
    of_broker_alone
    stop_processes
    : >"$dir/processes"
}

kill_broker() {
    of_broker_alone
    until_true 5 kill_marked || die "these processes cannot be killed: $(marked | tr '\n' ' ')"
    : >"$dir/processes"
}

resume() {
    of_broker_alone
    if all_run; then
        say "already running under $dir"
        return 0
    fi
    # What is left of a broker that has ended by itself.
    halt
    umask 077
    trap halt EXIT
    trap 'exit 130' INT TERM HUP
    # shellcheck source=/dev/null
    . "$dir/env"
    run_rabbitmq "$VOGELER_TEST_MANAGEMENT_URL"
    trap - EXIT INT TERM HUP
}

# ---- with ---------------------------------------------------------------------------------

# One run at a time in a directory; what a run that was killed has left there is stopped first. The
# command gets a process group of its own, so that a signal reaches all that it started.
with() {
    local outcome=0 child
    mkdir -p "$(dirname "$dir")"
    exec 9>"$dir.lock"
    flock -n 9 || die "another run uses $dir"
    stop
    start
    trap stop EXIT
    # shellcheck source=/dev/null
    . "$dir/env"
    set -m
    "$@" </dev/null 9>&- &
    child=$!
    set +m
    trap 'kill -TERM -- "-$child" 2>/dev/null || true; wait "$child" || true; exit 130' INT TERM HUP
    wait "$child" || outcome=$?
    describe
    all_run || { warn "not all of it was running at the end; the logs are in $dir/log"; outcome=$((outcome == 0 ? 1 : outcome)); }
    exit "$outcome"
}

# ---- commands -----------------------------------------------------------------------------

# Sets $dir and $mark.
at_directory() {
    [ -n "${1:-}" ] || { usage >&2; exit 64; }
    dir=$(realpath -m -- "$1")
    if [ -d "$dir" ] && ! [ -x "$dir" ]; then die "$dir belongs to another user; only that user and root can use it"; fi
    mark=$(cat "$dir/mark" 2>/dev/null || true)
}

at_running_directory() {
    at_directory "$@"
    [ -e "$dir/env" ] || die "nothing runs under $dir; tests/services.sh start $1 starts it"
}

main() {
    local command=${1:-}
    shift || true
    case $command in
        install) install "$@" ;;
        start) at_directory "$@"; start "${2:-}" ;;
        status) at_directory "$@"; status ;;
        stop) at_directory "$@"; stop "${2:-}" ;;
        with) at_directory "$@"; shift; with "$@" ;;
        halt | resume) at_running_directory "$@"; "$command" ;;
        kill) at_running_directory "$@"; kill_broker ;;
        spawn) at_running_directory "$@"; shift; spawn "$@" ;;
        ctl) at_running_directory "$@"; shift; exec "$dir/rabbitmq/run" "$(rabbitmq_bin)/rabbitmqctl" "$@" ;;
        help | -h | --help) usage ;;
        *) usage >&2; exit 64 ;;
    esac
}

main "$@"

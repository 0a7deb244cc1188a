#!/bin/sh
# RabbitMQ logins for Vogeler with the rights of their role and no more. The patterns stand in
# permissions.json and topic-permissions.json beside this script, where the tests read them too.
#
# Without --apply it prints the rabbitmqctl commands. With it, it runs them; running it again is
# harmless, and is the way to a changed password. Passwords are files, given to rabbitmqctl by standard
# input so that no process list shows them; the server's goes to its machine as broker.password.
set -eu

usage() {
    cat <<'USAGE'
usage: roles.sh [--apply] [--vhost VHOST] [--passwords DIR] [--node NAME]... [ROLE]...

  ROLE              server, runner, node; all three unless said. Its login is vogeler-ROLE.
  --node NAME       a login for that one node, called NAME, with rights to its own queue alone;
                    use it instead of the role "node", whose login all nodes share
  --vhost VHOST     the virtual host (/)
  --passwords DIR   where LOGIN.password is, or is made, one a login (./vogeler-passwords)
  --apply           run the commands, instead of printing them

RABBITMQCTL         the command to run (rabbitmqctl)
USAGE
}

here=$(cd "$(dirname "$0")" && pwd)
ctl=${RABBITMQCTL:-rabbitmqctl}
vhost=/
passwords=vogeler-passwords
apply=

die() { printf 'roles.sh: %s\n' "$*" >&2; exit 1; }

# rows FILE ROLE FIELD...: a line for each of the role's objects in FILE, its fields set apart by tabs.
# One object a line is all the JSON that this reads; \\ is the only escape in it.
rows() {
    rows_file=$here/$1.json
    rows_role=$2
    shift 2
    awk -v role="$rows_role" -v names="$*" '
        function field(name,    value) {
            if (!match($0, "\"" name "\": *\"[^\"]*\"")) return ""
            value = substr($0, RSTART, RLENGTH)
            sub(/^"[^"]*": *"/, "", value)
            sub(/"$/, "", value)
            gsub(/\\\\/, "\\", value)
            return value
        }
        BEGIN { count = split(names, wanted, " ") }
        field("role") == role {
            for (i = 1; i <= count; i++) printf "%s%s", field(wanted[i]), i < count ? "\t" : "\n"
        }' "$rows_file"
}

# quote WORD: the word for a shell.
quote() {
    case $1 in
        *[!A-Za-z0-9_./:=-]* | '') printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf %s "$1" ;;
    esac
}

# run ARG...: rabbitmqctl, or the line that would run it.
run() {
    if [ -n "$apply" ]; then
        # shellcheck disable=SC2086 # RABBITMQCTL may be a command with its first arguments
        $ctl -q "$@" </dev/null
    else
        printf %s "$ctl"
        for word in "$@"; do printf ' %s' "$(quote "$word")"; done
        echo
    fi
}

# Makes the file LOGIN.password where it is missing.
need_password() {
    [ -n "$apply" ] && [ ! -s "$1" ] || return 0
    mkdir -p "$passwords"
    (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$1")
    echo "made a password: $1"
}

# login NAME: exists, with the password of its file.
login() {
    file=$passwords/$1.password
    need_password "$file"
    if [ -z "$apply" ]; then
        echo "$ctl add_user $(quote "$1") <$(quote "$file") || $ctl change_password $(quote "$1") <$(quote "$file")"
        return 0
    fi
    # shellcheck disable=SC2086 # as above
    if $ctl -q list_users </dev/null | cut -f1 | grep -qxF -e "$1"; then
        $ctl -q change_password "$1" <"$file" >/dev/null
    else
        $ctl -q add_user "$1" <"$file" >/dev/null
    fi
}

# grant LOGIN ROLE [NODE]: the role's rights, with the node's name in the place of NODE.
grant() {
    # A dot is the one character of a node name that a pattern takes for something else.
    node=$(printf %s "${3:-}" | sed 's/\./\\\\./g')
    tab=$(printf '\t')
    rows permissions "$2" configure write read | sed "s/NODE/$node/g" | while IFS=$tab read -r configure write read; do
        run set_permissions -p "$vhost" "$1" "$configure" "$write" "$read"
    done
    rows topic-permissions "$2" exchange write read | sed "s/NODE/$node/g" | while IFS=$tab read -r exchange write read; do
        run set_topic_permissions -p "$vhost" "$1" "$exchange" "$write" "$read"
    done
    [ -z "$apply" ] || echo "login $1: has the rights of $2 in the virtual host $vhost"
}

roles=
nodes=
while [ $# -gt 0 ]; do
    case $1 in
        --apply) apply=yes ;;
        --vhost | --passwords | --node)
            [ $# -gt 1 ] || die "$1 needs a value; roles.sh --help"
            case $1 in
                --vhost) vhost=$2 ;;
                --passwords) passwords=$2 ;;
                --node)
                    case $2 in '' | *[!a-z0-9._-]*) die "$2 is no node name: lower-case letters, digits, dot, dash and underscore" ;; esac
                    nodes="$nodes $2"
                    ;;
            esac
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        server | runner | node) roles="$roles $1" ;;
        *) die "there is no role $1; roles.sh --help" ;;
    esac
    shift
done
[ -n "$roles$nodes" ] || roles='server runner node'

for role in $roles; do
    login "vogeler-$role"
    grant "vogeler-$role" "$role"
done
for name in $nodes; do
    login "$name"
    grant "$name" one-node "$name"
done

#!/bin/sh
# Makes the machine that is being installed a Vogeler node: the %post of a kickstart file, a preseed
# late_command, cloud-init. It is in the tarball too, and can be run again.
#
#   %post
#   curl -fsS http://install.example.com/vogeler/post.sh | sh -s -- \
#       --tarball http://install.example.com/vogeler/vogeler-client-0.1.0-x86_64.tar.gz --sha256 … \
#       --broker amqps://rabbitmq.example.com --password-file /root/broker.password
#   %end
#
# ROOT: the root to install into, for one that is mounted elsewhere.
set -eu

usage() {
    cat <<'USAGE'
usage: post.sh --tarball URL|FILE --broker URL --password-file FILE [OPTION]...

  --tarball URL|FILE     vogeler-client-VERSION-ARCH.tar.gz, as make dist makes it
  --sha256 HEX           what the tarball must be
  --broker URL           amqp://host or amqps://host, without a password
  --password-file FILE   holds the password of the login; copied to /etc/vogeler/broker.password
  --login NAME           the login at the broker (vogeler-node)
  --ca-file FILE         the authority (PEM) behind amqps://; copied to /etc/vogeler/ca.pem
  --node-name NAME       the machine's fully qualified name, unless said
  --groups A,B           the node's groups
USAGE
}

say() { printf 'vogeler: %s\n' "$*"; }
die() { printf 'vogeler: %s\n' "$*" >&2; exit 1; }

root=${ROOT:-}
etc=$root/etc/vogeler
tarball='' sha256='' broker='' password_file='' login=vogeler-node ca_file='' node_name='' groups=''

while [ $# -gt 0 ]; do
    case $1 in -h | --help) usage; exit 0 ;; esac
    [ $# -gt 1 ] || die "$1 needs a value; post.sh --help"
    case $1 in
        --tarball) tarball=$2 ;;
        --sha256) sha256=$2 ;;
        --broker) broker=$2 ;;
        --password-file) password_file=$2 ;;
        --login) login=$2 ;;
        --ca-file) ca_file=$2 ;;
        --node-name) node_name=$2 ;;
        --groups) groups=$2 ;;
        *) die "there is no option $1; post.sh --help" ;;
    esac
    shift 2
done
[ -n "$tarball" ] || die "--tarball is missing: the URL or path of vogeler-client-VERSION-ARCH.tar.gz"
[ -n "$broker" ] || die "--broker is missing: where RabbitMQ is, for example amqps://rabbitmq.example.com"
case $broker in *://*:*@*) die "--broker holds a password, which the process list and the install log would show; use --password-file" ;; esac
[ -r "$password_file" ] || die "--password-file '$password_file' cannot be read; it holds the password of the login $login"
[ -z "$ca_file" ] || [ -r "$ca_file" ] || die "--ca-file $ca_file cannot be read"

# Lower-case, and nothing where the machine does not know its name yet: then the client looks
# for itself, at its first start.
own_name() {
    name=$({ hostname -f || hostname || cat /proc/sys/kernel/hostname; } 2>/dev/null | head -n 1 | tr '[:upper:]' '[:lower:]')
    case $name in
        '' | localhost | localhost.* | '(none)') say "this machine has no name yet; the client takes the one it has when it starts" >&2 ;;
        *) printf '%s\n' "$name" ;;
    esac
}

fetch() {
    case $1 in
        *://*)
            say "fetching $1"
            if command -v curl >/dev/null 2>&1; then
                curl -fsSL --retry 3 -o "$2" "$1" || die "cannot fetch $1; curl says why above"
            elif command -v wget >/dev/null 2>&1; then
                wget -q -O "$2" "$1" || die "cannot fetch $1 with wget"
            else
                die "neither curl nor wget is here to fetch $1"
            fi
            ;;
        *) cp -- "$1" "$2" || die "cannot read the tarball $1" ;;
    esac
}

verify() {
    [ -n "$sha256" ] || return 0
    found=$(sha256sum "$1" | cut -d' ' -f1)
    [ "$found" = "$sha256" ] || die "$tarball is not what --sha256 promised: it is $found; nothing was installed"
}

# quoted TEXT: a YAML string.
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"; }

write_configuration() {
    if [ -e "$etc/vogeler.yaml" ]; then
        say "kept $etc/vogeler.yaml"
        return 0
    fi
    [ -n "$node_name" ] || node_name=$(own_name)
    {
        echo "# Written by Vogeler's kickstart/post.sh. All keys: /usr/share/doc/vogeler/vogeler-node.yaml"
        echo 'broker:'
        echo "  url: $(quoted "$broker")"
        echo "  username: $(quoted "$login")"
        echo '  password_file: /etc/vogeler/broker.password'
        [ -z "$ca_file" ] || echo '  ca_file: /etc/vogeler/ca.pem'
        echo 'client:'
        [ -z "$node_name" ] || echo "  node_name: $(quoted "$node_name")"
        [ -z "$groups" ] || echo "  groups: [$(quoted "$groups" | sed "s/,/', '/g")]"
        echo '  state_dir: /var/lib/vogeler'
    } >"$etc/vogeler.yaml.new"
    mv -f "$etc/vogeler.yaml.new" "$etc/vogeler.yaml"
    say "wrote $etc/vogeler.yaml${node_name:+ for $node_name}"
}

# copy MODE FROM TO: by way of another name, since FROM and TO may be the same.
copy() {
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

enable_unit() {
    unit=vogeler-client.service
    if command -v systemctl >/dev/null 2>&1; then
        if [ -n "$root" ]; then systemctl --root="$root" enable -q "$unit"; else systemctl enable -q "$unit"; fi
    elif [ -d "$root/usr/lib/systemd/system" ]; then
        mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
        ln -sf "/usr/lib/systemd/system/$unit" "$root/etc/systemd/system/multi-user.target.wants/$unit"
    fi
    # A machine that is up, not one that is being installed.
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl restart "$unit"
        say "$unit runs"
    else
        say "$unit starts with the machine"
    fi
}

umask 022
work=$(mktemp -d "${TMPDIR:-/tmp}/vogeler-post.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

fetch "$tarball" "$work/vogeler.tar.gz"
verify "$work/vogeler.tar.gz"
mkdir "$work/vogeler"
tar -xzf "$work/vogeler.tar.gz" -C "$work/vogeler" --strip-components=1 --no-same-owner || die "$tarball is no tarball of make dist"
[ -f "$work/vogeler/bin/vogeler-client" ] ||
    die "$tarball holds no vogeler-client; it must be vogeler-client-VERSION-ARCH.tar.gz"

mkdir -p "$etc"
copy 600 "$password_file" "$etc/broker.password"
[ -z "$ca_file" ] || copy 644 "$ca_file" "$etc/ca.pem"
write_configuration
env -u BINDIR -u PREFIX -u SYSCONFDIR -u UNITDIR DESTDIR="$root" sh "$work/vogeler/packaging/install.sh" client >/dev/null
say "installed $("$root/usr/bin/vogeler-client" --version 2>/dev/null || echo vogeler-client)"
enable_unit

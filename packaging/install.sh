#!/bin/sh
# Puts one role of Vogeler, or all, into a file system: `make install` from the checkout, and
# kickstart/post.sh from an unpacked tarball, which is laid out alike.
#
# Every file is written beside its place and then moved there, so that a program that reads the
# directory meanwhile sees the old file or the new one. A vogeler.yaml that is there stays.
set -eu
umask 022 # a client refuses plugins that a group can write

usage() {
    cat <<'USAGE'
usage: install.sh [all|client|server|runner|standalone]

DESTDIR      the root to install into; empty for this machine's
PREFIX       /usr
SYSCONFDIR   /etc
UNITDIR      PREFIX/lib/systemd/system
BINDIR       where the built programs are: bin beside this folder, or else target/release
MANUALS      where their man pages and completions are: manuals beside this folder, or else target/manuals
USAGE
}

top=$(cd "$(dirname "$0")/.." && pwd)
destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr}
sysconfdir=${SYSCONFDIR:-/etc}
unitdir=${UNITDIR:-$prefix/lib/systemd/system}
if [ -n "${BINDIR:-}" ]; then bindir=$BINDIR; elif [ -d "$top/bin" ]; then bindir=$top/bin; else bindir=$top/target/release; fi
if [ -n "${MANUALS:-}" ]; then manuals=$MANUALS; elif [ -d "$top/manuals" ]; then manuals=$top/manuals; else manuals=$top/target/manuals; fi

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# put MODE SOURCE TARGET: SOURCE at TARGET below DESTDIR. The name it has meanwhile ends in no .yaml,
# which a client that reads its plugin directory would take for a descriptor.
put() {
    target=$destdir$3
    mkdir -p "$(dirname "$target")"
    install -m "$1" "$2" "$target.new"
    mv -f "$target.new" "$target"
}

# put_adapted MODE SOURCE TARGET: the same, with the paths that were chosen in the place of the usual ones.
put_adapted() {
    adapted=$(mktemp "${TMPDIR:-/tmp}/vogeler-install.XXXXXX")
    sed -e "s|/usr/bin/|$prefix/bin/|g" -e "s|/usr/lib/vogeler|$prefix/lib/vogeler|g" \
        -e "s|/usr/share/|$prefix/share/|g" -e "s|/etc/vogeler|$sysconfdir/vogeler|g" "$2" >"$adapted"
    put "$1" "$adapted" "$3"
    rm -f "$adapted"
}

program() {
    [ -x "$bindir/$1" ] || die "$bindir/$1 is not there; build it first: make build"
    put 755 "$bindir/$1" "$prefix/bin/$1"
    manual "$1"
}

# manual PROGRAM: its man pages, and its completions where each shell looks for them.
manual() {
    [ -d "$manuals/man" ] || { echo "no man pages and completions of $1: $manuals is not there; make build writes it" >&2; return 0; }
    for page in "$manuals/man/man1/$1".1 "$manuals/man/man1/$1"-*.1; do
        case $1,${page##*/} in vogeler,vogeler-client* | vogeler,vogeler-server* | vogeler,vogeler-runner*) continue ;; esac
        put 644 "$page" "$prefix/share/man/man1/${page##*/}"
    done
    put 644 "$manuals/completions/bash/$1.bash" "$prefix/share/bash-completion/completions/$1"
    put 644 "$manuals/completions/zsh/_$1" "$prefix/share/zsh/vendor-completions/_$1"
    put 644 "$manuals/completions/fish/$1.fish" "$prefix/share/fish/vendor_completions.d/$1.fish"
}

# configuration EXAMPLE: as vogeler.yaml where there is none yet, and as an example in any case.
configuration() {
    put_adapted 644 "$top/packaging/$1" "$prefix/share/doc/vogeler/$1"
    if [ -e "$destdir$sysconfdir/vogeler/vogeler.yaml" ]; then
        echo "kept $destdir$sysconfdir/vogeler/vogeler.yaml; the example of this version is $prefix/share/doc/vogeler/$1"
    else
        put_adapted 644 "$top/packaging/$1" "$sysconfdir/vogeler/vogeler.yaml"
    fi
}

unit() { put_adapted 644 "$top/packaging/systemd/$1" "$unitdir/$1"; }

# mode FILE: what a file of the project is installed with.
mode() { if [ -x "$1" ]; then echo 755; else echo 644; fi; }

# tree SOURCE TARGET: every file below SOURCE.
tree() {
    (cd "$1" && find . -type f) | sed 's,^\./,,' | while IFS= read -r file; do put "$(mode "$1/$file")" "$1/$file" "$2/$file"; done
}

client() {
    program vogeler-client
    # Programs before the descriptors that name them.
    tree "$top/plugins/bin" "$prefix/lib/vogeler/plugins"
    for file in "$top"/plugins/*.yaml; do put 644 "$file" "$sysconfdir/vogeler/plugins.d/${file##*/}"; done
    mkdir -p "$destdir/var/lib/vogeler"
    chmod 700 "$destdir/var/lib/vogeler"
    unit vogeler-client.service
    # For machines whose init is none of systemd's.
    put_adapted 644 "$top/packaging/supervisord/vogeler-client.conf" "$prefix/share/doc/vogeler/supervisord/vogeler-client.conf"
    put 644 "$top/packaging/runit/README.md" "$prefix/share/doc/vogeler/runit/README.md"
    put_adapted 755 "$top/packaging/runit/vogeler-client/run" "$prefix/share/doc/vogeler/runit/vogeler-client/run"
}

server() {
    program vogeler-server
    tree "$top/design-docs" "$prefix/share/vogeler/design-docs"
    tree "$top/packaging/rabbitmq" "$prefix/share/vogeler/rabbitmq"
    unit vogeler-server.service
}

runner() {
    program vogeler-runner
    unit vogeler-runner@.service
    unit vogeler-runner@.timer
    put_adapted 644 "$top/packaging/cron/vogeler-runner" "$prefix/share/doc/vogeler/cron/vogeler-runner"
}

role=${1:-all}
case $role in
    client) client; configuration vogeler-node.yaml ;;
    server) server; configuration vogeler.yaml ;;
    runner) runner; configuration vogeler.yaml ;;
    standalone) program vogeler ;; # it brings its plugins along and reads no configuration
    all) client; server; runner; program vogeler; configuration vogeler.yaml ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 1 ;;
esac
[ ! -f "$top/docs/EXPRESSIONS.md" ] || put 644 "$top/docs/EXPRESSIONS.md" "$prefix/share/doc/vogeler/docs/EXPRESSIONS.md"
[ ! -f "$top/README.md" ] || put 644 "$top/README.md" "$prefix/share/doc/vogeler/README.md"
echo "installed Vogeler ($role) under ${destdir:-/}"

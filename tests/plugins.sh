#!/bin/sh
# Runs every day-one plugin the way the agent does, with a clean environment and no input: first
# against made-up machines with awkward values, then for real on this one.
#
# Prints a line a check and, last, "N passed, N failed". Writes only to a folder of its own
# under ${TMPDIR:-/tmp}, which it removes.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
bin=$top/plugins/bin
clean=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

passed=0
failed=0
pass() { passed=$((passed + 1)); echo "ok    $1"; }
fail() { failed=$((failed + 1)); echo "FAIL  $1"; shift; for line in "$@"; do echo "      $line"; done; }
finish() { echo "$passed passed, $failed failed"; [ "$failed" -eq 0 ]; exit; }

# The interpreter itself: a wrapper in its place (pyenv's) costs more than the checks do.
if ! python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null); then
    fail "python3 is needed to judge the plugins' JSON and cannot be run"
    finish
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/vogeler-plugins.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# ---- the made-up machine ----------------------------------------------------------------

# The tools every machine has. Whatever else a plugin finds in a test is made up.
mkdir "$work/tools"
for tool in sh awk sed sort grep cat tr dirname readlink timeout; do
    if ! path=$(command -v "$tool"); then
        fail "$tool is needed and cannot be found"
        finish
    fi
    ln -s "$path" "$work/tools/$tool"
done

# machine NAME: an empty machine; its root is $root, its programs are in $fake.
machine() {
    root=$work/$1/root
    fake=$work/$1/bin
    mkdir -p "$root/etc" "$root/proc" "$root/sys" "$fake"
    fake uname <<'SH'
case $1 in -n) echo box ;; -s) echo Linux ;; -r) echo 6.1.0 ;; -v) echo '#1 SMP "x"' ;; -m) echo x86_64 ;; esac
SH
    fake getconf <<'SH'
echo 100
SH
}

# fake NAME: a program of the machine, from standard input.
fake() {
    { echo '#!/bin/sh'; cat; } >"$fake/$1"
    chmod +x "$fake/$1"
}

# file PATH: a file of the machine, from standard input.
file() {
    mkdir -p "$(dirname "$root/$1")"
    cat >"$root/$1"
}

# run PROGRAM [NAME=VALUE …]: its output, complaints and exit status are in $work/out, err, $status.
run() {
    program=$1
    shift
    status=0
    (cd "$work" && env -i PATH="$fake:$work/tools" PLUGIN_ROOT="$root" "$@" sh "$bin/$program" \
        </dev/null >"$work/out" 2>"$work/err") || status=$?
}

# ---- judging ----------------------------------------------------------------------------

cat >"$work/judge.py" <<'PY'
import json, sys

def once(pairs):
    names = [name for name, _ in pairs]
    twice = {name for name in names if names.count(name) > 1} if len(names) < 5000 else ()
    if twice:
        raise ValueError("members that are there twice: %s" % sorted(twice))
    return dict(pairs)

def refuse(word):
    raise ValueError("no JSON number: " + word)

text = open(sys.argv[1], "rb").read().decode("utf-8")
d = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
got, want = eval(sys.argv[2]), eval(sys.argv[3])
if got != want:
    sys.exit("got      %r\nexpected %r" % (got, want))
PY

# is WHAT EXPRESSION EXPECTED: d is the JSON that the plugin printed.
is() {
    if [ "$status" -ne 0 ]; then
        fail "$1" "exit status $status: $(tail -n 1 "$work/err")"
    elif said=$("$python" "$work/judge.py" "$work/out" "$2" "${3:-True}" 2>&1); then
        pass "$1"
    else
        fail "$1" "$(printf '%s\n' "$said" | tail -n 2)"
    fi
}

# refused WHAT WORD: the plugin failed, said WORD on standard error and printed nothing.
refused() {
    if [ "$status" -eq 0 ]; then
        fail "$1" "exit status 0"
    elif [ -s "$work/out" ]; then
        fail "$1" "it printed: $(head -n 1 "$work/out")"
    elif ! grep -q -e "$2" "$work/err"; then
        fail "$1" "it said: $(cat "$work/err")"
    else
        pass "$1"
    fi
}

# ---- descriptors ------------------------------------------------------------------------

for descriptor in "$top"/plugins/*.yaml; do
    name=${descriptor##*/}
    said=$(awk '
        /^#/ || /^$/ { next }
        /^[a-z][a-z0-9_]*:$/ { aliases++; next }
        /^  (description|command|format|key|timeout|max_output|user|memory|nice|env|cwd|shell): / {
            seen[$1]++
            if ($1 == "format:" && $2 !~ /^(json|yaml|lines|string|raw|keyvalue)$/) print "format " $2
            next
        }
        { print "line " NR ": " $0 }
        END {
            if (!aliases) print "no alias"
            if (seen["description:"] != aliases) print "no description"
            if (seen["command:"] != aliases) print "no command"
        }' "$descriptor")
    command=$(sed -n 's/^  command: \([^ ]*\).*/\1/p' "$descriptor")
    case $command in
        rpm | ohai) ;;
        *) [ -x "$bin/$command" ] || said="$said plugins/bin/$command is not there or not executable" ;;
    esac
    if [ -z "$said" ]; then pass "$name: a descriptor with a program behind it"; else fail "$name" "$said"; fi
done

# ---- packages ---------------------------------------------------------------------------

machine debian
echo 'ID=debian' | file etc/os-release
fake dpkg-query <<'SH'
[ "$1" = -W ] || exit 9
printf 'install ok installed\tzlib1g\t1:1.2.13\n'
printf 'install ok installed\tacl\t2.3.1-3\n'
printf 'install ok installed\tlibc6\t2.36-9\ninstall ok installed\tlibc6\t2.36-9\n'
printf 'install ok installed\tlibtwo\t1.1\ninstall ok installed\tlibtwo\t1.0\n'
printf 'hold ok installed\tkept\t1.0"quoted"\\back\001\033end\n'
printf 'deinstall ok config-files\tgone\t1.0\ninstall ok half-installed\thalf\t1.0\n'
printf 'install ok installed\tcaf\303\251\t\342\202\254-\377\360\237\220\246\355\240\200!\n'
SH
fake rpm <<'SH'
printf 'bash\t5.2.26-3.el9\nkernel\t5.14.0-70\nkernel\t5.14.0-162\ngpg-pubkey\t8483c65d-5ccc5b19\n'
SH
run packages
is "packages: dpkg, names sorted" 'list(d)' "['acl', 'café', 'kept', 'libc6', 'libtwo', 'zlib1g']"
is "packages: an epoch stays" 'd["zlib1g"]' '"1:1.2.13"'
is "packages: two architectures of one version are one" 'd["libc6"]' '"2.36-9"'
is "packages: two versions are a list" 'd["libtwo"]' '["1.0", "1.1"]'
is "packages: quotes, backslashes, control characters" 'd["kept"]' '"1.0\"quoted\"\\back\x01\x1bend"'
is "packages: UTF-8 stays, what is none is dropped" 'd["café"]' '"€-🐦!"'
fake dpkg-query <<'SH'
printf 'install ok installed\tacl\t2.3.1-3\n'
echo "dpkg-query: error: read error" >&2
exit 2
SH
run packages
refused "packages: half a list is a failure" 'dpkg-query failed with status 2'
fake dpkg-query <<'SH'
exit 0
SH
run packages
is "packages: an empty dpkg database gives way to rpm" 'd["kernel"]' '["5.14.0-162", "5.14.0-70"]'
fake rpm <<'SH'
exit 0
SH
run packages
is "packages: nothing installed is an empty object" d '{}'
fake dpkg-query <<'SH'
seq=0
while [ $seq -lt 5000 ]; do seq=$((seq + 1)); printf 'install ok installed\tpackage-%d\t1:2.3-%d\n' $seq $seq; done
SH
run packages
is "packages: five thousand of them" 'len(d), d["package-4711"]' '5000, "1:2.3-4711"'

machine redhat
printf 'ID="rocky"\nID_LIKE="rhel centos fedora"\n' | file etc/os-release
fake dpkg-query <<'SH'
printf 'install ok installed\tdebootstrap-leftover\t1\n'
SH
fake rpm <<'SH'
printf 'bash\t5.2.26-3.el9\ngpg-pubkey\t8483c65d-5ccc5b19\ngpg-pubkey\t3228467c-613798eb\n'
SH
run packages
is "packages: rpm comes first where rpm is at home" d \
    '{"bash": "5.2.26-3.el9", "gpg-pubkey": ["3228467c-613798eb", "8483c65d-5ccc5b19"]}'

machine alpine
echo 'ID=alpine' | file etc/os-release
fake apk <<'SH'
[ "$*" = 'info -v' ] || exit 9
echo "WARNING: opening cache: No such file or directory" >&2
printf 'musl-1.2.4-r2\nxz-libs-5.4.3-r0\nfont-noto-0_git20230101-r1\n.build-deps-20240101.120000\n'
SH
run packages
is "packages: apk" d \
    '{".build-deps": "20240101.120000", "font-noto": "0_git20230101-r1", "musl": "1.2.4-r2", "xz-libs": "5.4.3-r0"}'

machine arch
echo 'ID=arch' | file etc/os-release
fake pacman <<'SH'
printf 'bash 5.2.026-2\nlinux 6.9.3.arch1-1\n'
SH
run packages
is "packages: pacman" d '{"bash": "5.2.026-2", "linux": "6.9.3.arch1-1"}'

machine bare
run packages
refused "packages: no manager at all is a failure" 'no package manager'

# ---- rpms: the command of the descriptor, split as a shell splits it ---------------------

machine rpms
# shellcheck disable=SC2016 # for the made-up rpm
printf '%s\n' '[ "$1 $2 $3" = "-qa --queryformat %{NAME}=%{VERSION}-%{RELEASE}\n" ] && echo bash=5.2-3.el9' | fake rpm
said=$(PATH="$fake:$work/tools" sh -c "$(sed -n 's/^  command: //p' "$top/plugins/rpms.yaml")" 2>&1) || :
if [ "$said" = bash=5.2-3.el9 ]; then pass "rpms: rpm is asked for name=version-release"; else fail "rpms: arguments" "$said"; fi

# ---- facts ------------------------------------------------------------------------------

machine facts
file etc/os-release <<'TXT'
# a comment
PRETTY_NAME="Made \"up\" \\ Linux"
NAME="Made \"up\" \\ Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
ID=madeup
ID_LIKE="ubuntu debian"
TXT
file proc/cpuinfo <<'TXT'
processor	: 0
model name	: Fast(R)  CPU	"X" @ 2.00GHz
flags		: fpu hypervisor sse

processor	: 1
model name	: Fast(R)  CPU	"X" @ 2.00GHz
TXT
printf '0,2-3\n' | file sys/devices/system/cpu/online
printf 'MemTotal:  8000000000 kB\nMemFree: 1 kB\nMemAvailable: 4000000 kB\nSwapTotal: 0 kB\n' | file proc/meminfo
printf '12345.67 20000.00\n' | file proc/uptime
printf 'cpu 1 2 3\nbtime 1709210096\n' | file proc/stat
for disk in sda:15002931888 sr0:0 loop0:8 zram0:8 dm-0:8; do
    echo "${disk#*:}" | file "sys/block/${disk%:*}/size"
done
mkdir -p "$root/sys/block/sr0/device"
printf 'ATA     \n' | file sys/block/sda/device/vendor
printf 'Disk "9"\\  \n' | file sys/block/sda/device/model
echo 1 | file sys/block/sda/queue/rotational
echo 0 | file sys/block/sda/removable
for interface in lo eth0 eth0.5; do
    echo 00:11:22:33:44:55 | file "sys/class/net/$interface/address"
    echo 1500 | file "sys/class/net/$interface/mtu"
    echo up | file "sys/class/net/$interface/operstate"
done
echo eth0 | file sys/class/net/bonding_masters
ln -s /usr/share/zoneinfo/Europe/Berlin "$root/etc/localtime"
fake ip <<'SH'
cat <<'IP'
1: lo    inet 127.0.0.1/8 scope host lo\       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast qlen 1000
2: eth0    inet 192.0.2.2/24 brd 192.0.2.255 scope global eth0\       valid_lft forever
2: eth0    inet 198.51.100.1 peer 198.51.100.2/32 scope global eth0\       valid_lft forever
2: eth0    inet6 fe80::1/64 scope link \       valid_lft forever
3: eth0.5@eth0    inet6 2001:db8::5/64 scope global \       valid_lft forever
IP
SH
fake hostname <<'SH'
echo box.example.com
SH
fake systemd-detect-virt <<'SH'
echo none; exit 1
SH
run facts
is "facts: os" 'd["os"]' '{"id": "madeup", "family": "Debian", "name": "Made \"up\" \\ Linux", "version": "12", "codename": "bookworm"}'
is "facts: kernel" 'd["kernel"]' '{"name": "Linux", "release": "6.1.0", "version": "#1 SMP \"x\""}'
is "facts: names" 'd["hostname"], d["fqdn"], d["architecture"]' '"box", "box.example.com", "x86_64"'
is "facts: processors on line" 'd["cpu"]' '{"model": "Fast(R) CPU \"X\" @ 2.00GHz", "count": 3}'
is "facts: memory beyond 32 bits" 'd["memory"]' \
    '{"total_bytes": 8192000000000, "available_bytes": 4096000000, "swap_total_bytes": 0}'
is "facts: disks with a device and a size" 'd["disks"]' \
    '[{"name": "sda", "size_bytes": 7681501126656, "vendor": "ATA", "model": "Disk \"9\"\\", "rotational": True, "removable": False}]'
is "facts: interfaces" 'sorted(d["network"]["interfaces"])' '["eth0", "eth0.5", "lo"]'
is "facts: an interface" 'd["network"]["interfaces"]["eth0"]' \
    '{"mac": "00:11:22:33:44:55", "mtu": 1500, "state": "up", "addresses": ["192.0.2.2", "198.51.100.1", "fe80::1"]}'
is "facts: a VLAN" 'd["network"]["interfaces"]["eth0.5"]["addresses"]' '["2001:db8::5"]'
is "facts: times, across a leap day" '(d["uptime_seconds"], d["boot_time"])' '(12345, "2024-02-29T12:34:56Z")'
is "facts: zone and virtualisation" '(d["timezone"], d["virtualisation"])' '("Europe/Berlin", "none")'

rm "$fake/systemd-detect-virt" "$fake/ip" "$fake/hostname"
fake ifconfig <<'SH'
cat <<'OLD'
eth0      Link encap:Ethernet  HWaddr 00:11:22:33:44:55
          inet addr:192.0.2.2  Bcast:192.0.2.255  Mask:255.255.255.0
          inet6 addr: fe80::1/64 Scope:Link
lo: flags=73<UP,LOOPBACK,RUNNING>  mtu 65536
        inet 127.0.0.1  netmask 255.0.0.0
OLD
SH
run facts
is "facts: ifconfig where there is no ip" \
    '[d["network"]["interfaces"][i]["addresses"] for i in ("eth0", "lo")]' '[["192.0.2.2", "fe80::1"], ["127.0.0.1"]]'
is "facts: a hypervisor by the processor's flags" 'd["virtualisation"]' '"vm-other"'
is "facts: no domain to be found" 'd["fqdn"]' '"box"'
echo QEMU | file sys/class/dmi/id/sys_vendor
run facts
is "facts: a hypervisor by its hardware" 'd["virtualisation"]' '"qemu"'
echo '1:name=systemd:/docker/0123' | file proc/1/cgroup
run facts
is "facts: a container by its cgroup" 'd["virtualisation"]' '"docker"'

for pair in ubuntu:Debian:debian 'fedora:RedHat:' 'rocky:RedHat:rhel centos fedora' 'amzn:RedHat:fedora' alpine:Alpine: \
    arch:Archlinux: 'opensuse-leap:Suse:suse opensuse' sles:Suse: gentoo:Gentoo: 'void:Void Linux:'; do
    id=${pair%%:*}; rest=${pair#*:}
    printf 'NAME="%s"\nID=%s\nID_LIKE="%s"\n' "${rest%%:*}" "$id" "${rest#*:}" | file etc/os-release
    run facts
    is "facts: family of $id" 'd["os"]["family"]' "'${rest%%:*}'"
done
rm "$root/etc/os-release"
echo 'CentOS release 6.10 (Final)' | file etc/redhat-release
run facts
is "facts: Red Hat 6 and its kin" 'd["os"]' \
    '{"id": "centos", "family": "RedHat", "name": "CentOS", "version": "6.10", "codename": "Final"}'
echo 'Red Hat Enterprise Linux Server release 6.9 (Santiago)' | file etc/redhat-release
run facts
is "facts: Red Hat itself" '(d["os"]["id"], d["os"]["version"])' '("rhel", "6.9")'

machine empty
run facts
is "facts: a machine that tells nothing" '(d["hostname"], d["disks"], d["network"], "os" in d)' \
    '("box", [], {"interfaces": {}}, False)'

# ---- ps ---------------------------------------------------------------------------------

machine processes
# process PID PPID UID NAME-IN-STATUS NAME-IN-STAT FLAGS
process() {
    printf 'Name:\t%s\nUmask:\t0022\nPid:\t%s\nPPid:\t%s\nUid:\t9\t%s\t9\t9\nVmRSS:\t    2048 kB\n' "$4" "$1" "$2" "$3" |
        file "proc/$1/status"
    printf '%s (%b) S %s 1 1 0 -1 %s 0 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n' "$1" "$5" "$2" "$6" | file "proc/$1/stat"
}
process 1 0 0 systemd systemd 4194560
process 10 1 33 'we"i\nrd\\)' 'we"i\nrd\\)' 4194560
process 9 1 1001 nine nine 4194560
process 2 0 0 kthreadd kthreadd 2129984
process 100 1 4242 ')) S 7 (' ')) S 7 (' 4194560
printf 'mysqld\0--password=hunter2\0' | file proc/10/cmdline
echo 'btime 1700000000' | file proc/stat
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n' | file etc/passwd
fake getent <<'SH'
echo 'ldapuser:*:1001:100::/home/l:/bin/sh'; exit 2
SH
run processes
is "ps: sorted by pid, without kernel threads" '[p["pid"] for p in d]' '[1, 9, 10, 100]'
is "ps: one process" 'd[0]' \
    '{"pid": 1, "ppid": 0, "user": "root", "rss_bytes": 2097152, "started": "2023-11-14T22:15:23Z", "command": "systemd"}'
is "ps: names with quotes, line feeds, brackets" '[p["command"] for p in d[2:]]' '["we\"i\nrd\\)", ")) S 7 ("]'
is "ps: their start is not confused by the name" '{p["started"] for p in d}' '{"2023-11-14T22:15:23Z"}'
is "ps: users of the machine, of a directory, of nobody" '[p["user"] for p in d[1:]]' '["ldapuser", "www-data", "4242"]'
is "ps: no argument is ever told" '"hunter2" in text' False
machine empty
run processes
refused "ps: no process to be read is a failure" 'cannot read any process'

# ---- ports ------------------------------------------------------------------------------

machine ports
fake ss <<'SH'
[ "$2" = -lntup ] || exit 9
echo 'Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process'
case $1 in
    -4) cat <<'SS'
udp   UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=5,fd=13))
tcp   LISTEN 0      128          0.0.0.0:8080      0.0.0.0:*    users:(("ja"va \x",pid=77,fd=3),("other",pid=78,fd=3))
tcp   LISTEN 0      128                *:22              *:*
tcp   LISTEN 0      128                *:22              *:*
SS
        ;;
    -6) cat <<'SS'
tcp   LISTEN 0      128                *:443             *:*    users:(("nginx",pid=9,fd=6))
tcp   LISTEN 0      128             [::]:22           [::]:*
udp   UNCONN 0      0     [fe80::1]%eth0:546          [::]:*
SS
        ;;
esac
SH
run ports
is "ports: ss" '[(p["proto"], p["address"], p["port"], p.get("process")) for p in d]' '[
    ("tcp", "0.0.0.0", 22, None), ("tcp", "::", 22, None), ("tcp", "::", 443, "nginx"), ("tcp", "0.0.0.0", 8080, "ja\"va \\x"),
    ("udp", "127.0.0.53", 53, "systemd-resolve"), ("udp", "fe80::1%eth0", 546, None)]'
rm "$fake/ss"
heading='  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'
file proc/net/tcp <<TXT
$heading
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:9C40 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 2 1
TXT
file proc/net/tcp6 <<TXT
$heading
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 3 1
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4 1
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 5 1
   3: B80D0120000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 6 1
   4: B80D0120010000000200030000000400:1F93 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 6 1
TXT
file proc/net/udp <<TXT
$heading
   0: 350000E0:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7 1
TXT
run ports
is "ports: /proc/net where there is no ss" '[(p["proto"], p["address"], p["port"]) for p in d]' '[
    ("tcp", "127.0.0.1", 22), ("tcp", "::", 443), ("tcp", "::1", 8080), ("tcp", "::ffff:127.0.0.1", 8081),
    ("tcp", "2001:db8::1", 8082), ("tcp", "2001:db8:0:1:3:2:4:0", 8083), ("udp", "224.0.0.53", 5353)]'
machine big
fake uname <<'SH'
echo s390x
SH
printf '%s\n   0: 7F000001:0016 00000000:0000 0A 0:0 00:0 0 0 0 1 1\n' "$heading" | file proc/net/tcp
run ports
is "ports: a machine of the other byte order" d '[{"proto": "tcp", "address": "127.0.0.1", "port": 22}]'
machine empty
run ports
is "ports: none" d '[]'

# ---- users ------------------------------------------------------------------------------

machine users
{
    # shellcheck disable=SC2016 # a password hash
    printf 'root:$6$secrethash:0:0:root:/root:/bin/bash\n'
    printf 'odd"\\name:x:1000:007:G\303\251cos "q" \\ \002\tx \351:/home/odd dir:\n'
    printf 'root:x:5:5:a second root:/:/bin/sh\n+::::::\n+nis:x:1:1::/:/bin/sh\nbroken line\n'
    printf 'nobody:x:4294967294:65534:::/bin/false\n'
} | file etc/passwd
run accounts
is "users: the first entry of a name, no NIS lines, nothing broken" 'list(d)' '["root", "odd\"\\name", "nobody"]'
is "users: root" 'd["root"]' '{"uid": 0, "gid": 0, "home": "/root", "shell": "/bin/bash", "gecos": "root"}'
is "users: awkward values" 'd["odd\"\\name"]' \
    '{"uid": 1000, "gid": 7, "home": "/home/odd dir", "shell": "", "gecos": "Gécos \"q\" \\ \x02\tx "}'
is "users: a uid of 32 bits" 'd["nobody"]["uid"]' 4294967294
is "users: no password" '"secrethash" in text' False
fake getent <<'SH'
echo 'fromldap:*:7:8:L:/home/l:/bin/sh'
SH
run accounts PLUGIN_ROOT=
is "users: whom getent knows" d '{"fromldap": {"uid": 7, "gid": 8, "home": "/home/l", "shell": "/bin/sh", "gecos": "L"}}'

# Every byte, in any order, against Python's own idea of UTF-8.
"$python" - "$work/passwd" "$work/expected.json" <<'PY'
import json, random, sys
random.seed(20101120)
pool = [bytes([b]) for b in range(1, 256) if b not in (10, 58)]
pool += [c.encode("utf-8", "surrogatepass") for c in "é€🐦\ud800\U0010ffff\u0800\u07ff"] * 20
pool += [b"\xc0\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80"] * 5
entries = {"u0": b"".join(pool)}
for i in range(1, 400):
    entries["u%d" % i] = b"".join(random.choices(pool, k=random.randrange(30)))
with open(sys.argv[1], "wb") as f:
    for name, gecos in entries.items():
        f.write(name.encode() + b":x:1:1:" + gecos + b":/:/bin/sh\n")
json.dump({name: gecos.decode("utf-8", "ignore") for name, gecos in entries.items()}, open(sys.argv[2], "w"))
PY
file etc/passwd <"$work/passwd"
run accounts
is "users: four hundred values of random bytes" '{name: u["gecos"] for name, u in d.items()}' \
    "json.load(open('$work/expected.json'))"

# ---- mounts -----------------------------------------------------------------------------

machine mounts
printf 'nodev\tsysfs\nnodev\ttmpfs\nnodev\tnfs4\n\text4\n\tfuseblk\n' | file proc/filesystems
file proc/self/mounts <<'TXT'
sysfs /sys sysfs rw,nosuid 0 0
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /hidden tmpfs rw,size=10k 0 0
tmpfs /hidden tmpfs rw,size=20k 0 0
/dev/sdb1 /mnt/two\040words\134040\011"q" fuseblk rw 0 0
server:/export\043 /mnt/nfs nfs4 rw,addr=192.0.2.9 0 0
curlftpfs#ftp://user:hunter2@host/dir /mnt/ftp fuse rw,password=hunter3,user_id=0 0 0
/dev/sdc1 /mnt/gone ext4 rw 0 0
tmpfs /mnt/none tmpfs rw 0 0
TXT
# shellcheck disable=SC2016 # for the made-up df
{
    printf 'root=%s log=%s\n' "$root" "$work/df.log"
    cat <<'SH'
printf '%s\n' "$*" >>"$log"
echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'
case ${3#"$root"} in
    /) echo '/dev/sda1 5000000000 4000000000 1000000000 80% /' ;;
    /hidden) echo 'tmpfs 20 4 16 20% /hidden' ;;
    /mnt/two*) echo "a name 7 100 40 -10 110% ${3#"$root"}" ;;
    /mnt/gone) echo 'df: input/output error' >&2; exit 1 ;;
    /mnt/none) echo 'tmpfs 0 0 0 - /mnt/none' ;;
esac
SH
} | fake df
run mounts
is "mounts: in their order" '[m["mountpoint"] for m in d]' \
    '["/sys", "/", "/hidden", "/hidden", "/mnt/two words\\040\t\"q\"", "/mnt/nfs", "/mnt/ftp", "/mnt/gone", "/mnt/none"]'
is "mounts: a disk" 'd[1]' '{"device": "/dev/sda1", "mountpoint": "/", "type": "ext4", "options": "rw,relatime",
    "size_bytes": 5120000000000, "used_bytes": 4096000000000, "available_bytes": 1024000000000}'
is "mounts: of two on one directory the last has a size" '["size_bytes" in m for m in d[2:4]]' '[False, True]'
is "mounts: spaces in the name, a file system overfull" '[d[4][k] for k in ("size_bytes", "used_bytes", "available_bytes")]' \
    '[102400, 40960, -10240]'
is "mounts: a network file system has no size" 'd[5]' \
    '{"device": "server:/export#", "mountpoint": "/mnt/nfs", "type": "nfs4", "options": "rw,addr=192.0.2.9"}'
is "mounts: a disk that does not answer is told without one" 'sorted(d[7])' '["device", "mountpoint", "options", "type"]'
is "mounts: nor has what is always empty" '"size_bytes" in d[8]' False
is "mounts: no password" '(d[6]["device"], d[6]["options"])' '("curlftpfs#ftp://user:***@host/dir", "rw,password=***,user_id=0")'
is "mounts: df is asked for local file systems only, by their true names" \
    "[l[len('-P -k $root'):] for l in open('$work/df.log').read().splitlines()]" \
    '["/", "/hidden", "/mnt/two words\\040\t\"q\"", "/mnt/gone", "/mnt/none"]'

# ---- services ---------------------------------------------------------------------------

machine systemd
mkdir -p "$root/run/systemd/system"
fake systemctl <<'SH'
case "$1" in
    list-unit-files) cat <<'FILES'
cron.service                enabled         enabled
getty@.service              enabled         enabled
never-loaded.service        masked          enabled
ssh.service                 static
FILES
        ;;
    list-units) cat <<'UNITS'
cron.service          loaded    active   running Regular "background" jobs
getty@tty1.service    loaded    active   running Getty on tty1
gone.service          not-found inactive dead    gone.service
* ssh.service         loaded    failed   failed  OpenBSD Secure Shell server
odd\x2dname.service   loaded    inactive dead    Odd \x2d
UNITS
        ;;
    *) exit 9 ;;
esac
SH
run services
is "services: systemd" d '{
    "cron": {"state": "running", "enabled": "enabled"}, "getty@tty1": {"state": "running", "enabled": "enabled"},
    "never-loaded": {"state": "dead", "enabled": "masked"}, "odd\\x2dname": {"state": "dead"},
    "ssh": {"state": "failed", "enabled": "static"}}'
fake systemctl <<'SH'
echo "Failed to connect to bus" >&2; exit 1
SH
run services
refused "services: a systemd that does not answer is a failure" 'Failed to connect'

machine openrc
fake rc-status <<'SH'
printf ' sshd                        [  started 00:10:12 (0) ]\n crond     [  stopped  ]\n flaky [ crashed ]\n'
SH
fake rc-update <<'SH'
printf ' sshd | default\ncrond |\n'
SH
run services
is "services: OpenRC" d '{"crond": {"state": "stopped", "enabled": "disabled"},
    "flaky": {"state": "crashed", "enabled": "disabled"}, "sshd": {"state": "running", "enabled": "enabled"}}'

machine scripts
for script in ssh cron urandom ntpd; do
    printf '#!/bin/sh\n' | file "etc/init.d/$script"
    chmod +x "$root/etc/init.d/$script"
done
echo readme | file etc/init.d/README
mkdir -p "$root/etc/rc2.d"
ln -s ../init.d/ssh "$root/etc/rc2.d/S01ssh"
fake service <<'SH'
printf ' [ + ]  ssh\n [ - ]  cron\n'
printf ' [ ? ]  urandom\nntpd (pid  1234) is running...\n' >&2
exit 3
SH
run services
is "services: scripts of /etc/init.d" d '{"cron": {"state": "stopped", "enabled": "disabled"},
    "ntpd": {"state": "running", "enabled": "disabled"}, "ssh": {"state": "running", "enabled": "enabled"},
    "urandom": {"enabled": "disabled"}}'
machine empty
run services
is "services: none" d '{}'

# ---- facter -----------------------------------------------------------------------------

machine facter
fake facter <<'SH'
[ "$*" = --json ] || exit 9
echo '{"os": {"name": "Debian"}}'; echo "ERROR Permission denied" >&2; exit 1
SH
run facter-json
is "facter: one fact that failed does not cost the others" d '{"os": {"name": "Debian"}}'
fake facter <<'SH'
exit 1
SH
run facter-json
refused "facter: nothing printed is a failure" 'exited with status 1'
fake facter <<'SH'
echo '{'; exit 2
SH
run facter-json
refused "facter: so is any other exit status" 'exited with status 2'
rm "$fake/facter"
if [ -x /opt/puppetlabs/bin/facter ]; then
    echo "--    facter: Puppet's own is installed here, its absence cannot be tried"
else
    run facter-json
    refused "facter: not installed" 'not installed'
fi

# ---- jmx_ports --------------------------------------------------------------------------

machine java
flag=-Dcom.sun.management.jmxremote.port=
printf '/usr/bin/java\0-Xmx1g\0-cp\0/a b/x.jar\0%s9999\0-Dcatalina.base=/srv/tom cat/\0org.apache.catalina.startup.Bootstrap\0start\0' $flag | file proc/10/cmdline
printf 'java\0%s9012\0-jar\0/opt/shop-1.2.jar\0--password=hunter2\0' $flag | file proc/11/cmdline
printf 'java\0-cp\0/opt/lib\0%s1099\0com.example.Main\0' $flag | file proc/12/cmdline
printf 'sh\0-c\0java %s5555 Main\0' $flag | file proc/13/cmdline
printf 'sudo\0java\0%s6666\0Main\0' $flag | file proc/14/cmdline
printf 'java\0%sx7\0Main\0' $flag | file proc/15/cmdline
printf 'java\0-jar\0plain.jar\0' | file proc/16/cmdline
: | file proc/17/cmdline
run jmx_ports
cat >"$work/expected" <<'YAML'
- instance: "com.example.Main"
  port: 1099
- instance: "shop-1.2"
  port: 9012
- instance: "tom_cat"
  port: 9999
YAML
if cmp -s "$work/expected" "$work/out"; then pass "jmx_ports: a list of instance and port"; else fail "jmx_ports" "$(cat "$work/out")"; fi
machine empty
run jmx_ports
if [ "$(cat "$work/out")" = '[]' ]; then pass "jmx_ports: none is an empty list"; else fail "jmx_ports: none" "$(cat "$work/out")"; fi

# ---- this machine -----------------------------------------------------------------------

# real PROGRAM [ARGUMENT …]: as the agent runs it, but with a HOME, for rpm would make a database in root's.
real() {
    status=0
    (cd "$work" && env -i PATH="$bin:$clean" HOME="$work" LANG=C.UTF-8 VOGELER_NODE=box VOGELER_COMMAND=x \
        VOGELER_RUN=x "$@" </dev/null >"$work/out" 2>"$work/err") || status=$?
}

# installed PROGRAM …: whether one of them is here.
installed() {
    for tool in "$@"; do
        if PATH=$clean:/opt/puppetlabs/bin command -v "$tool" >/dev/null; then return 0; fi
    done
    echo "--    not run for real, this machine has no $*"
    return 1
}

real facts
is "here: facts" 'all(type(v) is t for v, t in ((d["os"]["id"], str), (d["kernel"]["release"], str), (d["hostname"], str),
    (d["cpu"]["count"], int), (d["memory"]["total_bytes"], int), (d["disks"], list), (d["network"]["interfaces"], dict),
    (d["uptime_seconds"], int), (d["boot_time"], str), (d["virtualisation"], str)))'
if installed dpkg-query rpm apk pacman; then
    real packages
    is "here: packages" 'list(d) == sorted(d) and all(type(v) is str or len(v) > 1 for v in d.values())'
fi
if installed rpm; then
    real sh -c "$(sed -n 's/^  command: //p' "$top/plugins/rpms.yaml")"
    if [ "$status" -eq 0 ] && ! grep -qv '^[^=]*=.*-' "$work/out"; then
        pass "here: rpms"
    else
        fail "here: rpms" "exit status $status" "$(head -n 1 "$work/out" "$work/err")"
    fi
fi
real processes
is "here: ps" '[sorted(p) for p in d if p["pid"] == 1]' '[["command", "pid", "ppid", "rss_bytes", "started", "user"]]'
# With a socket open that must be seen.
status=0
"$python" - "$work/port" "PATH=$clean" "$bin/ports" >"$work/out" 2>"$work/err" <<'PY' || status=$?
import socket, subprocess, sys
s = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
sys.exit(subprocess.run(["env", "-i", sys.argv[2], sys.argv[3]], stdin=subprocess.DEVNULL).returncode)
PY
is "here: ports" '[(p["proto"], p["address"]) for p in d if p["proto"] == "tcp" and p["port"] == '"$(cat "$work/port")"']' \
    '[("tcp", "127.0.0.1")]'
real accounts
is "here: users" '(d["root"]["uid"], sorted(d["root"]))' '(0, ["gecos", "gid", "home", "shell", "uid"])'
real mounts
is "here: mounts" '"/" in [m["mountpoint"] for m in d] and all(type(m.get("size_bytes", 0)) is int for m in d)'
real services
is "here: services" 'all(set(s) <= {"state", "enabled"} for s in d.values())'
real jmx_ports
if [ "$status" -eq 0 ] && grep -q -e '^\[\]$' -e '^- instance: "' "$work/out"; then
    pass "here: jmx_ports"
else
    fail "here: jmx_ports" "exit status $status" "$(cat "$work/out" "$work/err")"
fi
if installed facter; then
    real facter-json
    is "here: facter" '"facterversion" in d'
fi
if installed ohai; then
    real ohai
    is "here: ohai" '"kernel" in d'
fi

finish

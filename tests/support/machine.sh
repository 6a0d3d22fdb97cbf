#!/bin/bash
# A machine where an operator types: `machine.sh FOLDER PYTHON CHECKOUT SCRIPT`, run as root within
# `unshare --mount --pid --fork --kill-child --mount-proc`. Its folders are the real ones, with all that is written to them kept below
# FOLDER. In place of what a test may not have: sudo, systemctl (which starts the unit's own command), a second disk, and of `make
# install` the environment, which takes minutes.
set -euo pipefail
export folder=$1 python=$2 checkout=$3
script=$4
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

over() {
    local own=$folder/over/${1//\//_}
    mkdir -p "$own/upper" "$own/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$own/upper,workdir=$own/work" "$1"
}
for tree in /etc /opt /usr /var /mnt; do over "$tree"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$folder/disk" /etc/cron.d /var/backups

# The account has to reach Python and the code, which may lie in the home of root.
for place in "$(realpath "$python")" "$python" "$checkout"; do
    while [ "$place" != / ]; do
        place=$(dirname "$place")
        [ -n "$(find "$place" -maxdepth 0 -perm -o+x)" ] || { over "$place" && chmod o+x "$place"; }
    done
done

command() { cat > "/usr/local/bin/$1" && chmod 755 "/usr/local/bin/$1"; }

command sudo <<'EOF'
#!/bin/bash
[ "$1" = -u ] || exec "$@"
account=$2
shift 2
exec setpriv --reuid="$account" --regid="$account" --init-groups -- "$@"
EOF

command make <<'EOF'
#!/bin/bash
set -eu
[ "$*" = install ]
/usr/bin/make --silent -C "$checkout" install-files
systemd-sysusers sarwater.conf
systemd-tmpfiles --create sarwater.conf
release=0.1.0-889a8bc
[ ! -e "/opt/sarwater/releases/$release" ] || release=0.1.0-1234567
mkdir -p "/opt/sarwater/releases/$release/bin"
cat > "/opt/sarwater/releases/$release/bin/sarwater" <<PROGRAM
#!/bin/sh
PYTHONPATH=$checkout exec $python -m sarwater "\$@"
PROGRAM
chmod 755 "/opt/sarwater/releases/$release/bin/sarwater"
ln -sfnT "releases/$release" /opt/sarwater/current
ln -sfnT /opt/sarwater/current/bin/sarwater /usr/local/bin/sarwater
EOF

command mount <<'EOF'
#!/bin/bash
case "$*" in
    "/dev/sdb1 /mnt") exec /usr/bin/mount --bind "$folder/disk" /mnt ;;
    /var/lib/sarwater) grep --quiet '^/dev/sdb1 /var/lib/sarwater ' /etc/fstab && exec /usr/bin/mount --bind "$folder/disk" /var/lib/sarwater ;;
esac
exec /usr/bin/mount "$@"
EOF

command systemctl <<'EOF'
#!/bin/bash
set -eu
verb=$1
unit=${!#}
log=/run/daemon.log
pid=/run/daemon.pid
[ "$verb" != daemon-reload ] || exit 0
[[ $unit == sarwater-watch* ]] || exit 0
stop() {
    [ ! -e "$pid" ] || ! kill -TERM "$(cat "$pid")" 2>/dev/null || tail --pid="$(cat "$pid")" -f /dev/null
    rm -f "$pid"
}
start() {
    install -d -o sarwater -g sarwater /run/sarwater
    set -a
    . /etc/sarwater/sarwater.env
    set +a
    words=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/sarwater-watch.service)
    cd /var/lib/sarwater
    before=$(grep -c ' ready: ' "$log" 2>/dev/null || true)
    setsid setpriv --reuid=sarwater --regid=sarwater --init-groups -- $words >> "$log" 2>&1 </dev/null &
    echo $! > "$pid"
    until [ "$(grep -c ' ready: ' "$log")" -gt "${before:-0}" ]; do
        kill -0 "$(cat "$pid")" || { cat "$log" >&2; exit 1; }
        sleep 0.1
    done
}
case $verb in
    stop) stop ;;
    start | enable) [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null || start ;;
    restart) stop; start ;;
    *) exit 1 ;;
esac
EOF

cd "$folder/desk"
bash -eux "$script"

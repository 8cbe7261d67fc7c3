#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Serve one SSH connection inside a host of a namespaces lab, on stdin and stdout: sshd_in_netns.sh NETNS TREE HOST.
# The connection gets mount and UTS namespaces of its own. There the host's own files, which lie below TREE, are
# mounted over the machine's, and the rest of the machine is read-only: no change of a host lands on the machine.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "$1: run \`zclab up\`" >&2
    exit 1
}

if [ "$1" != --inside ]; then
    [ -e "/run/netns/$1" ] || fail "$3: its network namespace $1 is gone"
    if [ "$(id -u)" -eq 0 ]; then
        exec ip netns exec "$1" unshare --uts sh "$0" --inside "$2" "$3"
    fi
    exec sudo -n ip netns exec "$1" unshare --uts sh "$0" --inside "$2" "$3"
fi

cd "$2" 2>/dev/null || fail "$3: its files $2 are gone"
machine=$(cut -d ' ' -f 2 /proc/self/mounts)
# By paths as they are: the state directory may lie below a directory that is covered before the last of them.
while read -r target; do
    mount --no-mtab --no-canonicalize --bind ".$target" "$target"
done <mounts
mount --no-mtab -o remount,bind,ro /
for target in $machine; do
    case $target in
    / | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
    *)
        # The host's own lies over what the machine has mounted there: that stays as it is.
        if grep -qxF "$target" mounts; then continue; fi
        # What is covered by now cannot be found any more, and need not be.
        mount --no-mtab -o remount,bind,ro "$(printf %b "$target")" 2>/dev/null || :
        ;;
    esac
done
# Settings of the network belong to the namespace, all others to the machine.
mount --no-mtab --bind /proc/sys /proc/sys
mount --no-mtab --bind /proc/sys/net /proc/sys/net
mount --no-mtab -o remount,bind,ro /proc/sys
hostname "$3"
exec /usr/sbin/sshd -i -E /var/log/sshd.log

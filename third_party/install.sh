#!/bin/sh
# Installs the Debian packages of third_party/packages.txt that are missing.
# sh third_party/install.sh GROUP...    groups: build data test bench
set -eu
here=$(cd "$(dirname "$0")" && pwd)
missing=
for group in "$@"; do
    for package in $(awk -v g="$group" '$1 == g { print $2 }' "$here/packages.txt"); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' ||
            missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "these packages are missing, and installing them takes root or sudo:$missing" >&2
    exit 1
fi
echo "installing:$missing"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing

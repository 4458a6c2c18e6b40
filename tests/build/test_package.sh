#!/bin/sh
# The Debian package holds all that the program and a stock luajit need.   sh test_package.sh BUILD
set -eu
build=$1
unset LUA_PATH || true
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cpack --config "$build/CPackConfig.cmake" -G DEB -B "$dir" >"$dir/log" 2>&1 || {
    cat "$dir/log"
    exit 1
}
depends=$(dpkg-deb -f "$dir"/*.deb Depends)
for package in libluajit-5.1-2 libopenblas0-serial libedit2 libgomp1 gnuplot-nox; do
    case $depends in
    *"$package"*) ;;
    *)
        echo "no $package among the dependencies: $depends"
        exit 1
        ;;
    esac
done
dpkg-deb -x "$dir"/*.deb "$dir/root"
cd "$dir"
root=$dir/root/usr
say='print(vestige.ones{ 2, 3 }:sum():item(), vestige.models.mlp{ inputs = 2 }:numel())'
expected='6	1674'
for got in "$("$root/bin/vestige" -e "$say")" \
    "$(LUA_PATH="$root/share/lua/5.1/?.lua;$root/share/lua/5.1/?/init.lua;;" \
        luajit -e "vestige = require 'vestige' $say")"; do
    [ "$got" = "$expected" ] || {
        echo "expected $expected, got $got"
        exit 1
    }
done
echo "the package works"

#!/bin/sh
# Installs the system tools that the demo and the tests run: C and C++ compilers, make, perl, Icarus Verilog, Yosys and Valgrind.
# Does nothing where they are present; without root it says what to install and goes on, since everything else works.
set -eu
missing=""
for pair in gcc:gcc nm:binutils g++:g++ valgrind:valgrind make:make perl:perl iverilog:iverilog yosys:yosys cmake:cmake; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "please install:$missing (for example: sudo apt-get install$missing); checks that need them are unavailable until then" >&2
fi

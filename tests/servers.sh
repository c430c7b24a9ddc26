#!/usr/bin/env bash
# Installs the servers and the browser that tests use, from the packages of Debian or Ubuntu, and starts none.
# This needs root, or CI with sudo. Otherwise, or if apt fails, it says which tests will be skipped, and why.
set -u
declare -A commands=(
    [openssh-server]=sshd
    [swift-proxy]=swift-proxy-server [swift-account]=swift-account-server
    [swift-container]=swift-container-server [swift-object]=swift-object-server
    [uwsgi-plugin-python3]=uwsgi_python3 [memcached]=memcached
    [chromium]=chromium [chromium-driver]=chromedriver
)
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
missing=()
for package in "${!commands[@]}"; do
    command -v "${commands[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

skip() {
    echo "tests that need ${missing[*]} are skipped: $1"
    exit 0
}
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    [ "${CI:-}" = true ] && sudo -n true 2>/dev/null || skip "install these packages, or run make servers as root"
    as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
fi
command -v apt-get >/dev/null || skip "there is no apt-get"

echo "installing ${missing[*]} for the tests"
# Keep apt from starting the services. The tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
apt() {
    timeout 600 "${as_root[@]}" apt-get -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=20 \
        -o DPkg::Lock::Timeout=120 "$@" </dev/null
}
log=$(mktemp)
if ! { apt update && apt install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    # One missing package must not keep the others from being installed.
    for package in "${missing[@]}"; do
        apt install --yes --no-install-recommends "$package" >>"$log" 2>&1 || echo "$package cannot be installed: $(tail -n 1 "$log")"
    done
fi
rm -f "$log"
exit 0

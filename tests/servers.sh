#!/usr/bin/env bash
# Installs the servers and the browser that tests talk to, from Debian's or Ubuntu's packages, and starts none.
# Only as root, or where CI may become it; else, or where apt fails, it says what the tests will skip, and why.
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
    [ "${CI:-}" = true ] && sudo -n true 2>/dev/null || skip "install them, or run make servers as root"
    as_root=(sudo -n env DEBIAN_FRONTEND=noninteractive)
fi
command -v apt-get >/dev/null || skip "no apt here"

echo "installing ${missing[*]} for the tests"
# Installed services are not to start: the tests start their own.
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
    # One that is not there must not keep the others away.
    for package in "${missing[@]}"; do
        apt install --yes --no-install-recommends "$package" >>"$log" 2>&1 || echo "no $package: $(tail -n 1 "$log")"
    done
fi
rm -f "$log"
exit 0

#!/bin/sh
# Sitecam's one way in. demo and test set it up in this folder and run it: nothing outside the folder is changed, and
# no root is needed. The other commands put it on this machine, as root, and look after it there; every one of them
# may be repeated, and goes on where an interrupted one stood.
#
# Exit codes: those of the demo or the tests; else
#    0  done, or nothing was left to do
#    1  failed; the message says what was done and what not
#   64  a wrong call
#   65  an archive that can't be trusted; nothing of it was used
#   69  this machine can't have it yet, or a tool is missing; nothing was changed
#   75  the new release was not healthy, and the old one runs again
#   77  not root
#  130  interrupted
set -eu
here=$PWD # paths on the command line count from where it was called
self=$(readlink -f "$0") # sitecam-install is a link to it
cd "$(dirname "$self")"
root=$PWD
work=.sitecam

usage() {
    cat <<'TEXT'
usage: ./install.sh demo [OPTIONS]   set up, then run a whole site on this machine: server, cameras, one night
       ./install.sh test [OPTIONS]   set up, then run linters, type checks and the test suite
       ./install.sh demo --help      the demo's options; for test, pytest's

       sudo ./install.sh camera [--server https://HOST:PORT --code CODE]   make this machine a camera
       sudo ./install.sh server [--host HOST]                              make it the site's server
       sudo sitecam-install upgrade FOLDER|FILE.tar.gz                     later, once one of these is there
       sudo sitecam-install backup FILE | restore FILE | apply | uninstall [--purge]
       each with --help; camera, server and upgrade with --dry-run

For demo and test, PYTHON=/path/to/python3 chooses the Python (3.11 to 3.13, 64-bit; default: python3).
TEXT
}

die() { # what, what it means, what to do
    printf 'install.sh: %s. %s. %s.\n' "$1" "$2" "$3" >&2
    exit 69
}

say() { printf '%s\n' "$*" >&2; }

find_python() {
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null 2>&1 || die "$python was not found" "Sitecam is written in Python" \
        "Install python3, or name one with PYTHON=/path/to/python3"
    "$python" - <<'TEXT' || die "$($python --version 2>&1) does not fit" "Packages exist for 64-bit Python 3.11 to 3.13" \
        "Name another one with PYTHON=/path/to/python3"
import struct, sys
sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and struct.calcsize("P") == 8))
TEXT
}

# Fetch a Debian package into .sitecam/debs/NAME and unpack it there: no root, nothing installed.
fetch_deb() {
    name=$1
    [ -d "$work/debs/$name" ] && return 0
    if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
        return 1
    fi
    state="$PWD/$work/apt"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/fetched"
    set -- -q -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=" \
        -o "DPkg::Lock::Timeout=300"
    if [ ! -e "$state/updated" ]; then
        say "  package lists"
        apt-get "$@" update >"$state/update.log" 2>&1 || { cat "$state/update.log" >&2; return 1; }
        : >"$state/updated"
    fi
    say "  $name"
    (cd "$state/fetched" && apt-get "$@" download "$name" >"$state/download.log" 2>&1) ||
        { cat "$state/download.log" >&2; return 1; }
    rm -rf "$work/debs/$name.part"
    mkdir -p "$work/debs/$name.part"
    dpkg-deb -x "$state/fetched/${name}"_*.deb "$work/debs/$name.part" || return 1
    mv "$work/debs/$name.part" "$work/debs/$name"
}

# A virtual environment with pip. Debian's python3 comes without ensurepip; its own pip wheel then serves.
make_environment() { # folder
    if [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    rm -rf "$1"
    if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        "$python" -m venv "$1"
        return 0
    fi
    "$python" -m venv --without-pip "$1" || die "python3 can't make a virtual environment" \
        "Packages would have nowhere to go" "Install python3-venv"
    fetch_deb python3-pip-whl || die "pip could not be fetched" "Packages can't be installed" "Install python3-venv"
    wheel=$(find "$work/debs/python3-pip-whl" -name 'pip-*.whl' | head -n 1)
    "$1/bin/python" "$wheel/pip" install --quiet --disable-pip-version-check --no-index "$wheel"
}

# Install a lock file's packages and this project; a stamp makes the second time quick.
install_packages() { # environment folder, lock file, project: yes or no
    stamp="$1/.sitecam-$(cat "$2" pyproject.toml | sha256sum | cut -c1-16)"
    [ -e "$stamp" ] && return 0
    say "Installing packages ($2); this takes minutes the first time"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$2"
    if [ "$3" = yes ]; then
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    fi
    rm -f "$1"/.sitecam-*
    : >"$stamp"
}

# The sample frames are drawn from a colour emoji font.
find_font() {
    [ -n "${SITECAM_EMOJI_FONT:-}" ] && return 0
    [ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] && return 0
    fetch_deb fonts-noto-color-emoji && mkdir -p "$work/fonts" &&
        cp "$work/debs/fonts-noto-color-emoji/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf" "$work/fonts/" &&
        return 0
    say "install.sh: no colour emoji font was found. The sample frames are drawn from one." \
        "Install fonts-noto-color-emoji, or name a NotoColorEmoji.ttf with SITECAM_EMOJI_FONT."
}

set_up() { # lock file
    find_python
    mkdir -p "$work"
    make_environment .venv
    install_packages .venv "$1" yes
    find_font
}

[ $# -ge 1 ] || { usage >&2; exit 64; }
command=$1
shift
case $command in
demo)
    # dev.txt holds all of demo.txt: an environment made for the tests serves the demo too
    if [ -e .venv/.sitecam-"$(cat locks/dev.txt pyproject.toml | sha256sum | cut -c1-16)" ]; then
        set_up locks/dev.txt
    else
        set_up locks/demo.txt
    fi
    cd "$here"
    exec "$root/.venv/bin/python" -m server.demo --work "$root/$work" "$@"
    ;;
test)
    set_up locks/dev.txt
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
        make_environment .venv-tflite # LiteRT's predecessor has wheels up to Python 3.11
        install_packages .venv-tflite locks/tflite-runtime.txt no
    fi
    exec .venv/bin/python -m tests.run "$@"
    ;;
camera | server | upgrade | apply | uninstall | backup | restore)
    # Not PYTHON: what is installed must run on the system's own, which apt keeps and picamera2 is built for. -B: root
    # must leave no files in somebody's folder.
    python=/usr/bin/python3
    [ -x "$python" ] || die "$python was not found" "Sitecam is written in Python" "apt install python3"
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' ||
        die "The system's $("$python" --version) is too old" "Sitecam needs 3.11 or later" \
            "Use Raspberry Pi OS or Debian 12 (bookworm) or 13 (trixie), 64-bit"
    cd "$here"
    PYTHONPATH=$root exec "$python" -P -B -m appliance.installing "$command" "$@"
    ;;
-h | --help | help)
    usage
    ;;
*)
    printf 'install.sh: unknown command %s\n' "$command" >&2
    usage >&2
    exit 64
    ;;
esac

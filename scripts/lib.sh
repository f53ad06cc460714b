# shellcheck shell=sh
# What scripts/test, scripts/demo and .ci/run share: finding out what is missing, and installing it where that
# is allowed. Sourced, never run.

PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
export PATH

say() { printf '%s\n' "$*" >&2; }

# have COMMAND...: all of them are there.
have() {
    for have_command in "$@"; do
        command -v "$have_command" >/dev/null 2>&1 || return 1
    done
}

# as_root COMMAND...: runs it as root; fails where that would need a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# The library that bindgen loads when `libublk` is built. libclang-cpp, which comes with LLVM, is another one.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    find /usr/lib /usr/local/lib /usr/lib64 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null |
        grep -q .
}

# install PACKAGE...: of Debian. Fails, with a word, where it cannot.
install() {
    [ $# -gt 0 ] || return 0
    if ! have apt-get; then
        say "missing: $*. This is no Debian: install them by hand."
        return 1
    fi
    if ! as_root true; then
        say "missing: $*. Run as root: apt-get install $*"
        return 1
    fi
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 || return 1
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null || {
        say "apt-get could not install: $*"
        return 1
    }
}

# missing COMMAND=PACKAGE...: the packages of commands that are not there.
missing() {
    for missing_pair in "$@"; do
        have "${missing_pair%%=*}" || printf '%s\n' "${missing_pair#*=}"
    done | sort -u
}

# What building needs: a toolchain, a linker and libclang. Never installs a toolchain: that is your choice.
prepare_build() {
    have cargo || {
        say 'There is no Rust toolchain: install one from https://rustup.rs first.'
        return 1
    }
    prepare_packages=$(missing cc=gcc)
    [ -e /usr/include/stdlib.h ] || prepare_packages="$prepare_packages libc6-dev"
    have_libclang || prepare_packages="$prepare_packages libclang-dev"
    # shellcheck disable=SC2086 # a list of packages
    install $prepare_packages
}

# Where cargo puts what it builds.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$PWD/target}"; }

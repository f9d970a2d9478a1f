#!/bin/sh
# Installs boxbuild for the user who runs it: the program, its manual pages and completions. What is
# fetched is checked against the SHA-256 sums of the release before anything is changed.
#
#   install.sh [--prefix DIR] [--version VERSION] [--from ADDRESS|DIR]
#
#   --prefix DIR     below which it is installed: DIR/bin, DIR/share (~/.local)
#   --version V      a release (@VERSION@)
#   --from PLACE     address or folder that has the files of a release, SHA256SUMS among them
set -eu

version=@VERSION@
releases=@RELEASES@
from=
prefix=

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,9{s/^# \{0,1\}//;p;}' "$0" 2>/dev/null || echo "install.sh [--prefix DIR] [--version V] [--from PLACE]"
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix=* | --version=* | --from=*) option=${1%%=*} value=${1#*=} ;;
        --prefix | --version | --from)
            option=$1
            [ $# -ge 2 ] || fail "$1 needs a value"
            value=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "there is no option $1 (--help)" ;;
    esac
    shift
    [ -n "$value" ] || fail "$option needs a value"
    case $option in
        --prefix) prefix=$value ;;
        --version) version=${value#v} ;;
        --from) from=$value ;;
    esac
done

case $version in
    *[!0-9A-Za-z.+-]*) fail "--version $version: not a version" ;;
esac
[ -n "$prefix" ] || prefix=${HOME:?set HOME, or say --prefix DIR}/.local
[ "$(uname -s)" = Linux ] || fail "boxbuild runs on Linux only"
case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "there is no boxbuild for $(uname -m): build it from its sources (cargo install --path cli)" ;;
esac
if [ -z "$from" ]; then
    [ -n "$releases" ] || fail "say where the release is: --from ADDRESS or --from DIR"
    from=$releases/v$version
fi
name=boxbuild-$version-$arch-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Copies a file of the release into the work folder.
get() {
    case $from in
        http://* | https://*)
            if command -v curl >/dev/null 2>&1; then
                curl --fail --silent --show-error --location --retry 3 --output "$work/$1" "$from/$1"
            elif command -v wget >/dev/null 2>&1; then
                wget --quiet --tries=3 --output-document="$work/$1" "$from/$1"
            else
                fail "there is neither curl nor wget"
            fi
            ;;
        *) cp -- "${from#file://}/$1" "$work/$1" ;;
    esac || fail "cannot get $1 from $from"
}

get SHA256SUMS
# One line for the archive, and no other.
awk -v name="$name.tar.gz" '$2 == name || $2 == "*" name' "$work/SHA256SUMS" >"$work/sum"
[ "$(wc -l <"$work/sum")" -eq 1 ] || fail "SHA256SUMS of $from has no sum of $name.tar.gz"
get "$name.tar.gz"
if command -v sha256sum >/dev/null 2>&1; then
    (cd "$work" && sha256sum --check --status sum)
else
    (cd "$work" && shasum --algorithm 256 --check --status sum)
fi || fail "$name.tar.gz from $from is not what SHA256SUMS says: nothing was installed"

tar -xzf "$work/$name.tar.gz" -C "$work"
new=$work/$name/bin/boxbuild
"$new" --version >/dev/null || fail "the program does not run on this host: nothing was installed"
mkdir -p "$prefix/bin" "$prefix/share" || fail "cannot write into $prefix: say another --prefix"
# By rename: builds that run keep the program that they were started with.
cp "$new" "$prefix/bin/.boxbuild.new.$$" && mv -f "$prefix/bin/.boxbuild.new.$$" "$prefix/bin/boxbuild" ||
    fail "cannot write into $prefix/bin: say another --prefix"
cp -R "$work/$name/share/." "$prefix/share/" || fail "cannot write into $prefix/share"
echo "$("$prefix/bin/boxbuild" --version) is in $prefix/bin"
case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) echo "add it to PATH: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
echo "what this host lacks for builds: boxbuild doctor"

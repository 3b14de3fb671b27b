#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes PostgreSQL's regression queries out of its Debian or Ubuntu source package, of the newest
# version that can be had: install_queries.sh FOLDER. Called by install_deps.sh, as root. The
# distribution's own sources are asked for, with lists of their own: the machine's stay as they are.
set -eu
folder=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/parts" "$work/lists/partial" "$work/cache/archives/partial"
for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources; do
  [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/${file##*/}"
done
[ ! -f /etc/apt/sources.list ] ||
  sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$work/parts/machine.list"

# The newest server that is there.
server=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 'postgresql-[0-9]*' |
  sed -n 's/^\(postgresql-[0-9]*\) installed$/\1/p' | sort -V | tail -n 1)
options="-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$work/parts
  -o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User=root"
cd "$work"
# Split into words on purpose.
# shellcheck disable=SC2086
{
  apt-get $options update
  # A mirror may list a version that it does not have: then the next older one.
  for version in $(apt-cache $options showsrc "$server" | sed -n 's/^Version: //p' | sort -rVu); do
    apt-get $options source --download-only "$server=$version" >/dev/null 2>error && break
  done
}
[ -n "$(find . -name "$server"_\*.orig.tar.\*)" ] || {
  echo "install_queries.sh: the source of $server cannot be had:" >&2
  cat error >&2
  exit 1
}
tar -xf "$server"_*.orig.tar.* --wildcards '*/src/test/regress/*'
mkdir -p "$(dirname "$folder")"
mv "$work"/postgresql-*/src/test/regress "$folder"
chmod -R a+rX "$folder"

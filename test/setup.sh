#!/usr/bin/env bash
# Installs what the tests need and makes the ordinary user that they also run as. With "bench": what the measurements compare against.
set -euo pipefail

user=casemate-test
want=(tmux:tmux vim:vim less:less htop:htop python3:python3 setpriv:util-linux strace:strace setfattr:attr git:git ssh-keygen:openssh-client)
[ "${1:-}" = bench ] && want=(bwrap:bubblewrap git:git)

missing=()
for pair in "${want[@]}"; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip' 2>/dev/null || [ "${1:-}" = bench ] || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "setup: please install: ${missing[*]}" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ "$(id -u)" = 0 ] && ! id "$user" >/dev/null 2>&1; then
	useradd --create-home --shell /bin/bash "$user"
fi

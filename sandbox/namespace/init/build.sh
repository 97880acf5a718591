#!/bin/sh
# Compiles the sandbox init. Usage: build.sh [OUTPUT]; the default output is embedded by package namespace.
set -eu
cd "$(dirname "$0")"
out=${1:-berth-init}
cc=${CC:-gcc}
if ! command -v "$cc" >/dev/null 2>&1; then
	echo "berth-init needs a C compiler: install gcc and the kernel headers (Debian: apt-get install gcc linux-libc-dev)" >&2
	exit 1
fi
# No C library, no dynamic linker, no writable code; -fno-stack-protector because the canary would live in the TLS that only
# a C library sets up.
"$cc" -std=gnu11 -Os -static -no-pie -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-builtin \
	-fno-pic -fno-pie -fcf-protection=none -Wall -Wextra -Werror -Wno-unused-function \
	-Wl,-z,noexecstack -Wl,-z,norelro -Wl,--build-id=none -Wl,-s \
	-o "$out" main.c spawn.c setup.c supervise.c

#!/bin/sh
# Install Chromium and its driver with apt-get, if they are missing and this user may.
# Always succeeds: without them, the tests in a browser are skipped and say why.
set -u
if command -v chromedriver >/dev/null && command -v chromium >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "No chromium and chromedriver: tests in a browser will be skipped."
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! said=$({ apt-get update && apt-get install --yes --no-install-recommends \
    chromium chromium-driver; } 2>&1); then
    echo "$said" | tail -n 3
    echo "Chromium cannot be installed: tests in a browser will be skipped."
fi

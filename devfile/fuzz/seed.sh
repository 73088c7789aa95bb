#!/bin/sh
# Fills the folder `seeds` with the devfiles of the tests.
set -eu
cd "$(dirname "$0")"
mkdir -p seeds
find ../tests/corpus -name '*.yaml' | while read -r file; do
  cp "$file" "seeds/$(echo "$file" | cksum | cut -d' ' -f1).yaml"
done

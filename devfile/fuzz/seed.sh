#!/bin/sh
# Fills the folder `seeds` with the devfiles of the tests, and a devcontainer.json.
set -eu
cd "$(dirname "$0")"
mkdir -p seeds
find ../tests/corpus -name '*.yaml' | while read -r file; do
  cp "$file" "seeds/$(echo "$file" | cksum | cut -d' ' -f1).yaml"
done
cat >seeds/devcontainer.json <<'END'
// every property that is read
{"name": "a", "image": "i:${localEnv:TAG:1}", "overrideCommand": false, "containerEnv": {"A": "${containerEnv:B:c}"},
"remoteEnv": {"A": null}, "forwardPorts": [80, "localhost:81"], "portsAttributes": {"80": {"protocol": "http"}},
"mounts": ["source=s,target=/t,type=volume", {"type": "tmpfs", "target": "/t2"}], "features": {},
"onCreateCommand": ["a", "${containerWorkspaceFolder}"], "postStartCommand": {"x": "a", "y": ["b"]},}
END

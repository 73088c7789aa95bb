# Clones each project that is not there yet. Runs before the workspace's containers; never fails.
set -u
umask 0002
state="$HOME/.workspace"
messages=/dev/termination-log
mkdir -p "$state" "$PROJECTS_ROOT"

failed() {
	printf '%s\n' "$1" >&2
	printf '%s\n' "$1" | head -c 1500 >>"$messages"
}

# No answer is an answer after a while.
limited() {
	if command -v timeout >/dev/null; then timeout 30 "$@"; else "$@"; fi
}

# project NAME PATH REVISION REMOTE URL [REMOTE URL]...
project() {
	name=$1 target="$PROJECTS_ROOT/$2" revision=$3 remote=$4 url=$5
	shift 5
	marker="$state/cloned-$name"
	[ -e "$marker" ] && return 0
	# Somebody's work: left as it is.
	if [ -n "$(ls -A "$target" 2>/dev/null)" ]; then
		: >"$marker"
		return 0
	fi
	half="$target.cloning"
	rm -rf "$half"
	mkdir -p "$(dirname "$target")"
	if ! said=$(limited git ls-remote --quiet -- "$url" HEAD 2>&1); then
		failed "project $name: $url cannot be reached: $said"
		return 0
	fi
	export GIT_HTTP_LOW_SPEED_LIMIT=1000 GIT_HTTP_LOW_SPEED_TIME=60
	if ! said=$(git clone --quiet --origin "$remote" -- "$url" "$half" 2>&1); then
		failed "project $name: $url cannot be cloned: $said"
		rm -rf "$half"
		return 0
	fi
	if [ -n "$revision" ] && ! said=$(git -C "$half" -c advice.detachedHead=false -c safe.directory="$half" checkout --quiet "$revision" -- 2>&1); then
		failed "project $name: $url has no $revision: $said"
	fi
	while [ $# -ge 2 ]; do
		git -C "$half" -c safe.directory="$half" remote add "$1" "$2"
		shift 2
	done
	# At once and whole: a clone that was cut off is never taken for one.
	rmdir "$target" 2>/dev/null
	mv "$half" "$target" && : >"$marker"
}


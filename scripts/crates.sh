# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Builds the programs for test machines, and keeps the compiled dependencies in the cache: they are
# half the work of a build in a fresh clone.  Sourced after env.sh.
#
# An entry belongs to one set of manifests, one lock file, one compiler and its flags.  Cargo checks
# each crate itself and rebuilds those that do not fit, so an incomplete entry only costs time.

CRATES=$FLEXSC_CACHE/crates
# The number of entries that are kept: enough for four trees.
CRATES_KEPT=8

# crates_key NAME: prints the key of the build NAME in the present environment.
crates_key() {
	(
		cd "$ROOT" || exit
		"$CARGO" --version
		"${RUSTC:-rustc}" -vV
		printf '%s\n' "$1" "${RUSTFLAGS:-}"
		find Cargo.lock Cargo.toml user tests -name 'Cargo.*' | sort | xargs cat
	) | sha256sum | cut -c 1-16
}

# crates_restore NAME DIR: fills the target directory DIR from the cache if it does not exist.
crates_restore() {
	local entry lock
	[[ -d $2 ]] && return 0
	entry=$CRATES/$1-$(crates_key "$1")
	[[ -d $entry ]] || return 0
	exec {lock}>"$CRATES/lock"
	flock "$lock"
	if [[ ! -d $2 && -d $entry ]]; then
		mkdir -p "$(dirname "$2")"
		rm -rf "$2.new"
		cp -a --reflink=auto "$entry" "$2.new"
		mv "$2.new" "$2"
		touch "$entry"
	fi
	exec {lock}>&-
}

# crates_keep NAME DIR: copies DIR, without our own crates, to the cache if it has no such entry.
crates_keep() {
	local entry lock old
	entry=$CRATES/$1-$(crates_key "$1")
	[[ -d $entry ]] && return 0
	mkdir -p "$CRATES"
	exec {lock}>"$CRATES/lock"
	flock "$lock"
	if [[ ! -d $entry ]]; then
		rm -rf "$CRATES"/.new.*
		rsync -a --prune-empty-dirs --exclude='flexsc*' --exclude='libflexsc*' --exclude='/*/examples' \
			--exclude='/*/*/examples' --exclude=incremental --exclude=/doc --include='*/' \
			--include='*.rlib' --include='*.rmeta' --include='*.so' --include='/.rustc_info.json' \
			--include='.fingerprint/**' --include='build/**' --exclude='*' "$2/" "$CRATES/.new.$$/"
		touch "$CRATES/.new.$$"
		mv "$CRATES/.new.$$" "$entry"
		while read -r old; do
			rm -rf "${CRATES:?}/$old"
		done < <(cd "$CRATES" && find . -mindepth 1 -maxdepth 1 -type d -printf '%T@ %f\n' |
			sort -rn | tail -n +$((CRATES_KEPT + 1)) | cut -d' ' -f2)
	fi
	exec {lock}>&-
}

# programs_progress LOG: prints the progress of build_programs.
programs_progress() {
	printf '%d crates built' "$(grep -c '^ *Compiling ' "$1")"
}

# build_programs: builds the static programs for test machines, in $PROGRAMS.
build_programs() {
	cd "$ROOT" || return
	export RUSTFLAGS=$STATIC
	crates_restore programs build/cargo
	"$CARGO" build --workspace --bins --release --locked \
		--target x86_64-unknown-linux-gnu --target-dir build/cargo
	crates_keep programs build/cargo
}

# The plugin of the processor model for the emulator.
MODEL_PLUGIN=$ROOT/build/cargo/release/libflexsc_model_plugin.so
export MODEL_PLUGIN

# build_model: builds $MODEL_PLUGIN.
build_model() {
	cd "$ROOT" || return
	crates_restore programs build/cargo
	"$CARGO" build -p flexsc-model-plugin --release --locked --target-dir build/cargo
}

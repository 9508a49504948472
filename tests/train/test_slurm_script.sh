#!/bin/bash
# `trireme slurm` refuses what does not fit, before anything is queued; and the examples are what it writes.
set -euo pipefail
. "$TRIREME_SOURCE/tests/train/lib.sh"

# refuse WORDS OPTION...: with these options there is no script, and a sentence with those words.
refuse() {
    local words=$1 code=0
    (cd "$scratch" && "$TRIREME_BIN/trireme" slurm tiny.yaml --time 60 --train-data-path text.bin "${@:2}") >"$scratch/refused.sbatch" \
        2>"$scratch/refused.err" || code=$?
    [ $code = 78 ] || fail "trireme slurm ${*:2} exited $code"
    [ ! -s "$scratch/refused.sbatch" ] || fail "trireme slurm ${*:2} printed a script"
    grep -qF -- "$words" "$scratch/refused.err" || { cat "$scratch/refused.err"; fail "it does not say: $words"; }
}
refuse "--nodes 3 would fit" --nodes 2 --data-parallel-size 3
refuse "or --spares 2 to keep them in reserve" --nodes 4 --data-parallel-size 2
refuse "--spares 2 leaves none" --nodes 2 --spares 2
refuse "tensor" --nodes 3 --tensor-model-parallel-size 2
refuse "nothing would be left to train in" --time 3
refuse "is not understood" --time 1:xx
refuse "no GPU is asked for" --device cuda
refuse "would lie idle" --device cpu --gpus-per-node 2
refuse "ask for more memory" --mem 1M
refuse "can't be read" --profile "$scratch/none.sh"
refuse "unknown" --partitoin fast
code=0
"$TRIREME_BIN/trireme" slurm --nodes 2 2>"$scratch/refused.err" || code=$?
[ $code = 78 ] && grep -q 'CONFIG comes first' "$scratch/refused.err" || fail "trireme slurm without CONFIG exited $code"
pass "requests that do not fit the configuration are refused"

# remake SCRIPT: with the command in its second line, but for where that was called.
remake() {
    local command
    command=$(sed -n '2s/^# Made by `trireme slurm \(.*\)`\.$/\1/p' "$1")
    [ -n "$command" ] || fail "$1 does not say how it was made"
    cd "$TRIREME_SOURCE/examples/slurm"
    "$TRIREME_BIN/trireme" slurm $command |
        sed -e "s#--chdir=$PWD *#--chdir=/scratch/me/trireme/examples/slurm   #" -e "s#^[^ ]*/trireme run#trireme run#"
}
for script in "$TRIREME_SOURCE"/examples/slurm/*.sbatch; do
    (remake "$script") >"$scratch/remade"
    [ -z "${TRIREME_UPDATE:-}" ] || cp "$scratch/remade" "$script"
    diff "$script" "$scratch/remade" || fail "${script##*/} is not what trireme slurm writes; TRIREME_UPDATE=1 remakes it"
    bash -n "$script" || fail "${script##*/} is no script"
done
for script in "$TRIREME_SOURCE"/examples/slurm/*.sh; do
    (set +u && . "$script") 2>"$scratch/said" || true # only root may raise a limit
    bash -n "$script" || fail "${script##*/} is no script"
done
pass "the examples are what trireme slurm writes"
finish

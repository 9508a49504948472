#!/bin/bash
# Ranks of a node divide its cores, unless their launcher has bound them, and no bit depends on it.
. "$TRIREME_SOURCE/tests/train/lib.sh"
make_text
says() { grep -o 'each rank is bound.*rank 0: cores [0-9]*$' "$scratch/$1.err"; }

must_train free 2 --cpu-threads 0 --binding launcher
! says free || fail "ranks were bound though that was left to the launcher"
must_train bound 2 --cpu-threads 0
if [ "$(nproc)" = 2 ]; then # whatever it is, two ranks have one each
    says bound >/dev/null || { cat "$scratch/bound.err"; fail "two ranks on two cores were not bound"; }
    grep -q ', 1 thread$' "$scratch/bound.err" || { cat "$scratch/bound.err"; fail "a rank with one core has not one thread"; }
fi
same free bound "ranks that are bound, and ranks that are not"
if [ "$(nproc)" -ge 2 ]; then
    OMPI_MCA_hwloc_base_binding_policy=core must_train launcher 2 --cpu-threads 0
    ! says launcher || fail "ranks were bound again, behind their launcher"
    same free launcher "ranks that mpirun has bound"
fi
# More ranks than cores: all share them.
must_train many 8 --cpu-threads 0 --global-batch-size 8
[ "$(nproc)" -ge 8 ] || ! says many || fail "ranks were bound that have no core of their own"
same free many "8 ranks"
finish

# Environment of a job on AWS instances with EFA; for `trireme slurm --profile`. Not measured here.

# NCCL reaches EFA through this plugin and the libfabric beside it, as AWS's installer places them.
export LD_LIBRARY_PATH=/opt/amazon/ofi-nccl/lib:/opt/amazon/efa/lib:${LD_LIBRARY_PATH:-}

# libfabric uses EFA or fails; without this it falls back to TCP and is merely slow.
export FI_PROVIDER=efa

# NCCL's first contact goes over sockets: not over loopback or the bridges of containers.
export NCCL_SOCKET_IFNAME=^lo,docker,veth

# Open MPI only brings the ranks together and agrees on statuses: TCP will do, and keeps away from EFA.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,vader,self

# Open MPI tries every address of a node; those of loopback and containers lead nowhere.
export OMPI_MCA_btl_tcp_if_exclude=lo,docker0

# Memory for transfers is pinned; the usual limit of 64 KiB would refuse it.
ulimit -l unlimited

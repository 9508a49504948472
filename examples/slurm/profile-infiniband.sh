# Environment of a job on InfiniBand; for `trireme slurm --profile`. Not measured here.

# Open MPI talks UCX, which knows InfiniBand, or says that it can't; left alone it may fall back to TCP.
export OMPI_MCA_pml=ucx

# NCCL uses the adapters whose names begin so, and not an Ethernet port of the same maker beside them.
export NCCL_IB_HCA=mlx5

# NCCL's first contact goes over sockets: not over loopback or the bridges of containers.
export NCCL_SOCKET_IFNAME=^lo,docker,virbr,veth

# Memory for transfers is pinned; the usual limit of 64 KiB would refuse it.
ulimit -l unlimited

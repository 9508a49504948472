# Environment of a job on plain Ethernet; for `trireme slurm --profile`. Not measured here.

# The one network that all nodes share. `ip -br addr` on a node shows the names.
network=eth0

# Open MPI tries every address of a node and waits long for those that lead nowhere.
export OMPI_MCA_btl_tcp_if_include=$network
# The same for mpirun's daemons (recovery.launcher: mpirun).
export OMPI_MCA_oob_tcp_if_include=$network
# TCP between nodes, shared memory within one; Open MPI does not look for other networks at each start.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,vader,self

# NCCL over the same network, and no search for InfiniBand or RoCE.
export NCCL_SOCKET_IFNAME=$network NCCL_IB_DISABLE=1
# One TCP stream does not fill a fast link: 2 threads with 4 streams each, for 25 Gbit/s and more.
export NCCL_SOCKET_NTHREADS=2 NCCL_NSOCKS_PERTHREAD=4

# Debian packages, and how to get those that are missing. Sourced by the scripts.

build_packages=(build-essential cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-dev
    libdnnl-dev libyaml-dev libjansson-dev libxxhash-dev libuv1-dev libsodium-dev libhwloc-dev)
test_packages=(libcmocka-dev clang clang-format libclang-rt-14-dev git python3 python3-h5py hdf5-tools binutils)
# Several hosts and a Slurm on one machine: tests/cluster. Their services are not needed and may be off.
cluster_packages=(iproute2 nftables util-linux procps openssh-server openssh-client munge slurmctld slurmd
    slurm-client)

# install_packages NAME...: as root or through sudo; says what to install where neither can.
install_packages() {
    local missing=() name sudo=
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "please install: ${missing[*]}"; exit 69; }
        sudo=sudo
    fi
    echo "== installing ${missing[*]}"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

"""The sum of gradients over MPI ranks, made where the gradients lie.

In memory by MPI's Allreduce. On GPUs by NCCL's, through CuPy: each rank has a GPU of its own, MPI only tells all ranks
the identity of NCCL's communicator. The way over GPUs is tested with a stand-in for NCCL and has not run on GPUs yet.

Neither promises an order in which the ranks' gradients are added; both repeat it for the same ranks, network and
length. That all ranks got the same bits is checked after every epoch (`ranks.Ranks.same_bits`).
"""


def gradient_sum(comm, state):
    """A function that replaces gradients like those of `state` by their sum over the ranks of `comm`."""
    machine = getattr(state, "machine", None)
    return OnGpus(comm, machine, nccl()) if machine is not None else OnHost(comm)


def nccl():
    """CuPy's NCCL; RuntimeError without."""
    from cupy.cuda import nccl
    if not nccl.available:
        raise RuntimeError("device='cuda' cannot be combined with comm here: CuPy has no NCCL, which sums gradients of "
                           "GPUs. Install it (pip install nvidia-nccl-cu13, or -cu12), or pass device='cpu'")
    return nccl


class OnHost:
    """NumPy arrays."""

    def __init__(self, comm):
        from mpi4py import MPI
        self._comm, self._in_place = comm, MPI.IN_PLACE

    def __call__(self, gradients):
        self._comm.Allreduce(self._in_place, gradients)


class OnGpus:
    """CuPy arrays on `machine`, the GPU of this rank (`kernels.cuda.machine.Gpu`), summed on its stream."""

    def __init__(self, comm, machine, nccl):
        self._nccl, self._machine = nccl, machine
        self._types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        identity = comm.bcast(nccl.get_unique_id() if comm.Get_rank() == 0 else None)
        with machine.current():
            self._ranks = nccl.NcclCommunicator(comm.Get_size(), identity, comm.Get_rank())

    def __call__(self, gradients):
        with self._machine.current():
            memory = gradients.data.ptr
            self._ranks.allReduce(memory, memory, gradients.size, self._types[str(gradients.dtype)],
                                  self._nccl.NCCL_SUM, self._machine.stream.ptr)

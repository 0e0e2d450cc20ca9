/* An MPI program for tests. Each rank prints one line, in any order: who it is, on which node, and the sum
 * of all ranks' numbers, N(N-1)/2 if all N found each other. The node is Slurm's name for it, since the
 * nodes of a test cluster share one host name, and else the host's. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int rank, size, sum;
	const char *node = getenv("SLURMD_NODENAME");
	char host[256] = "?";

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	gethostname(host, sizeof host - 1);
	printf("rank %d of %d on %s sum %d\n", rank, size, node ? node : host, sum);
	MPI_Finalize();
	return 0;
}

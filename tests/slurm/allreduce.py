"""What allreduce.c does, with PyTorch: one line a rank, and the sum of all ranks' numbers."""

import os

import torch
import torch.distributed

torch.distributed.init_process_group("gloo")
rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
sum_of_ranks = torch.tensor([rank])
torch.distributed.all_reduce(sum_of_ranks)
print(f"rank {rank} of {size} on {os.environ['SLURMD_NODENAME']} sum {sum_of_ranks.item()}", flush=True)
torch.distributed.destroy_process_group()

#!/usr/bin/env bash
# One training on any number of nodes without a scheduler; give the same command on each node:
#
#     NODES=2 HEAD=node0:29400 ID=chairs bash docs/launch/torchrun.sh --config vae-modelnet10-chairs --data.path /shared/modelnet10.h5
#
# On one machine: bash docs/launch/torchrun.sh --config …
# Processes that die are started again with all others, up to three times, and go on from the newest whole checkpoint.
# The run's folder is runs/<name>/<ID>; the same command with the same ID goes on with it, too.
# GPUS=0 trains on the CPU with PROCESSES processes.

set -euo pipefail
NODES=${NODES:-1}
GPUS=${GPUS:-$(nvidia-smi --list-gpus 2> /dev/null | wc -l)}
if [ "$GPUS" -gt 0 ]; then kind=gpu processes=$GPUS; else kind=cpu processes=${PROCESSES:-2}; fi
if [ "$NODES" -eq 1 ]; then
    meeting=(--standalone)
else
    meeting=(--rdzv_backend c10d --rdzv_endpoint "${HEAD:?the first node, such as node0:29400}" --rdzv_id "${ID:?a name for this run}")
fi

# Sharing its store, torchrun would hand the addresses of dead processes to those that it starts again
# (https://github.com/pytorch/pytorch/issues/167288).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

exec torchrun --nnodes "$NODES" --nproc_per_node "$processes" --max_restarts 3 "${meeting[@]}" \
    --no-python pcgen fit "$@" \
    --trainer.accelerator "$kind" --trainer.devices "$processes" --trainer.num_nodes "$NODES" --trainer.strategy ddp

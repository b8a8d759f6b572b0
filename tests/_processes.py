"""Python processes that begin with pcgen imported: importing it takes each of them seconds of a core."""

import multiprocessing
import os
import runpy
import socket
import sys
import time
from pathlib import Path

PRELOADED = ["pcgen.models", "pcgen.datamodules", "pcgen.callbacks", "pcgen.metrics", "torch.utils.data.distributed"]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def together(program, words, folder, size=2, seconds=250):
    """Run a program in processes that find each other as torchrun's do: the environment says who they are.

    Args:
        program: A file, or its text.
        words: Of its command line.
        folder: Takes the text, and what each process says.
        size: How many.
        seconds: That they may take. When one fails, the others have five more.

    Returns:
        What each has said, on either stream.
    """
    if isinstance(program, str):
        (folder / "program.py").write_text(program)
        program = folder / "program.py"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "together",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}  # fmt: skip
    said = [folder / f"said-{rank}.txt" for rank in range(size)]
    runs = []
    try:
        for rank, file in enumerate(said):
            environment = {k: str(v) for k, v in (told | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            arguments = [str(word) for word in (program, *words)]
            runs.append(_server.Process(target=_run, args=(arguments, dict(os.environ) | environment, str(file))))
            runs[-1].start()
        deadline = time.monotonic() + seconds
        while any(run.exitcode is None for run in runs) and time.monotonic() < deadline:
            if any(run.exitcode for run in runs):  # the others would wait for it
                deadline = min(deadline, time.monotonic() + 5)
            time.sleep(0.02)
    finally:
        for run in runs:
            run.kill()
            run.join()
    texts = [file.read_text() if file.exists() else "" for file in said]
    assert [run.exitcode for run in runs] == [0] * size, "\n".join(text[-3000:] for text in texts)
    return texts


def _run(words, environment, said):
    """Do as `python program words` would."""
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    import torch

    torch.set_num_threads(1)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")

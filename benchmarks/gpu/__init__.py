"""Limner on a GPU, by one command: tests, equal results, speed, memory, and a training.

    make gpu                                    nine minutes on a GPU, into the folder gpu
    make gpu GPU="--device cpu --tiny"          a rehearsal
    python -m benchmarks.gpu gpu --help         its settings

It needs no network. The folder holds `tests.txt`, `gpu.json` with all figures, `benchmark.txt`,
`train.txt` and the run folder `run`. Tests, figures and training are processes of their own, each
with a limit of time, so that none depends on another. `--minutes` limits the whole.
"""

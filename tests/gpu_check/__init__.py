"""What to run in 25 minutes on a machine with one GPU, and no package index: `make gpu-check`, described in docs/gpu-check.md.

Each step is a process with a time budget, so that one that hangs or runs out of memory leaves the next its time and an empty GPU. Steps say
what they must show and judge it themselves; speeds are shown with what was estimated for them, and never judged. In the dry form the same
processes run on a CPU with a tiny shape: that the commands work is then known before a GPU is paid for.
"""

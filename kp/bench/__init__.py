"""Speed, measured against a named peer in the same run and told as a ratio.

Seconds alone say little: machines differ, and the same machine differs from hour to hour. So implementations answer the same questions with
the same model, one at a time, in turns within each round.

The package imports nothing but the standard library, torch, transformers and kp's light modules, because the machines whose speed matters
most, bare GPU boxes, have nothing else: there `python -m kp.bench` stands in for the `kp` command. `train` alone needs peft, deepspeed and
accelerate as well.
"""

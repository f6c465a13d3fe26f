"""Speed, measured against a named peer in the same run and reported as a ratio.

Seconds alone say little: machines differ, and the same machine differs from hour to hour. So the implementations answer the same questions
with the same model, one at a time, in turns within each round.

The package imports only the standard library, torch, transformers, what the matcher reads names with (anyascii, roman, text2num) and kp's
light modules, because the machines whose speed matters most, bare GPU boxes, have little else: there `python -m kp.bench` replaces the `kp`
command. `train` also needs peft, deepspeed and accelerate.
"""

"""One module per stage; kp.study.registry has their order."""

"""One module a stage; kp.study.registry has their order."""
